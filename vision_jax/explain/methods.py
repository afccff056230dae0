"""The methods that draw maps: the one table from their names."""

from collections.abc import Callable
from typing import Any

from vision_jax.explain import cams, gradients

METHODS: dict[str, Callable[..., Any]] = {
    "grad_cam": cams.grad_cam,
    "grad_cam_plus_plus": cams.grad_cam_plus_plus,
    "hires_cam": cams.hires_cam,
    "gradient": gradients.gradient,
    "gradient_x_input": gradients.gradient_x_input,
    "integrated_gradients": gradients.integrated_gradients,
    "smooth_grad": gradients.smooth_grad,
}
"""Functions `(network, score, images, *, **options) -> (B, H, W)` by name; those that draw take
`keys` (B,) after the images."""
