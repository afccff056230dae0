"""The methods that draw maps: the one table from their names."""

from collections.abc import Callable
from typing import Any

from vision_jax.explain import attention, cams, gradients, perturbation

METHODS: dict[str, Callable[..., Any]] = {
    "grad_cam": cams.grad_cam,
    "grad_cam_plus_plus": cams.grad_cam_plus_plus,
    "hires_cam": cams.hires_cam,
    "gradient": gradients.gradient,
    "gradient_x_input": gradients.gradient_x_input,
    "integrated_gradients": gradients.integrated_gradients,
    "smooth_grad": gradients.smooth_grad,
    "attention_rollout": attention.attention_rollout,
    "occlusion": perturbation.occlusion,
    "rise": perturbation.rise,
    "shapley": perturbation.shapley,
}
"""Functions by name. Those that look into a network are `(network, score, images, **options)`, and
those of `perturbation` take one function of images, `(function, images, **options)`. What draws
takes `keys`, one per image, after the images. All return (N, H, W)."""
