"""Networks: linen modules that return `(output, endpoints)`."""

from vision_jax.models.cnn import CNN

__all__ = ["CNN"]
