"""What each map says, and what it does not, in plain words."""

import html
from collections.abc import Sequence
from typing import NamedTuple


class Reading(NamedTuple):
    """How to read the maps of a method.

    Attributes:
        title: what people call it.
        says: what a strong value means.
        silent: what the map does not tell.
    """

    title: str
    says: str
    silent: str


READINGS: dict[str, Reading] = {
    "grad_cam": Reading(
        "Grad-CAM",
        "which regions of the network's last feature map raise the score.",
        "It is coarse, and it leaves out what lowers the score.",
    ),
    "grad_cam_plus_plus": Reading(
        "Grad-CAM++",
        "which regions raise the score, with more weight on small ones, so that several instances "
        "of a class appear.",
        "It is coarse, and marks a region even if the score hardly depends on it.",
    ),
    "hires_cam": Reading(
        "HiResCAM",
        "how much each region of the last feature map adds to the score or takes from it. It is "
        "exact where one dense layer follows that map.",
        "It is coarse: a region's value includes what lies around it.",
    ),
    "gradient": Reading(
        "Gradient",
        "how strongly the score reacts to a small change of each pixel.",
        "It does not tell up from down, is noisy, and says nothing about large changes.",
    ),
    "gradient_x_input": Reading(
        "Gradient x input",
        "how strongly the score reacts to each pixel, times the pixel's value.",
        "Black pixels get 0 whatever they mean, and the map is noisy: it sees small changes only.",
    ),
    "integrated_gradients": Reading(
        "Integrated Gradients",
        "how much each pixel adds to the score on the way from a baseline image to this one; the "
        "values sum to the difference between the two scores.",
        "It depends on the baseline: pixels equal to it get 0.",
    ),
    "smooth_grad": Reading(
        "SmoothGrad",
        "how strongly the score reacts to each pixel, averaged over noisy copies of the image.",
        "It says nothing about large changes, such as the absence of an object.",
    ),
    "attention_rollout": Reading(
        "Attention rollout",
        "how much attention each patch receives through all layers of the transformer.",
        "It is the same for every class: it shows where the network looks, not why it decides.",
    ),
    "occlusion": Reading(
        "Occlusion",
        "how much the score falls when a patch is covered; blue where it rises.",
        "Parts that stand in for one another get nothing when each is covered alone.",
    ),
    "rise": Reading(
        "RISE",
        "how high the score is, on average, when a part is visible among random masks.",
        "It is an estimate from random masks; small differences are noise.",
    ),
    "shapley": Reading(
        "Shapley values",
        "each patch's fair share of the score, over random orders in which patches are uncovered.",
        "It is an estimate, and depends on what covers the patches.",
    ),
    "similarity": Reading(
        "Match map",
        "how much each position of the feature map adds to the cosine of the two images. Each map "
        "sums to the cosine. Numbered boxes are the pairs of parts that add most.",
        "It does not tell why two parts are alike: colour, texture, outline or surroundings.",
    ),
}
"""By the method's name."""

CAUTION = (
    "A map shows what this network's score depends on. It does not show whether the network is "
    "right, nor what it would do with another image. Yellow and orange speak for what is "
    "explained, blue against it. Each map has its own scale: compare numbers, not colours."
)


def readings_html(methods: Sequence[str]) -> str:
    """Say how to read the maps of some methods."""
    entries = "".join(
        f"<dt>{html.escape(title)}</dt><dd>Shows {html.escape(says)} {html.escape(silent)}</dd>"
        for title, says, silent in (READINGS[method] for method in methods)
    )
    return f"<dl>{entries}</dl>"
