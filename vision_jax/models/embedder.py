"""An embedding of any width on a backbone, and a projector for the loss that trains it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers


class Embedder(nn.Module):
    """A backbone, a dense layer to the embedding's width, and a projector behind it.

    The backbone's parameters keep their names, so that weights move between it and this. Called
    with images (B, H, W, C) in [0, 1], it returns what the loss compares, (B, P), and the
    backbone's endpoints, its own embedding as `pooled`; `embedding` (B, D) of length 1; with
    `predictor` also `prediction` (B, P), and with `centres` the parameter of that name.

    Attributes:
        backbone: A linen module with the endpoint `embedding`.
        width: Width of the embedding; None for the backbone's own.
        projector: Widths of the projector's layers, with batch norm and ReLU between them; none
            makes the embedding, not yet scaled, what the loss compares.
        predictor: Widths of the layers that predict one view's projection from another's.
        centres: Shape of the classes' centres before their width, (classes,) or (classes, K).
        dtype: Type to compute in; parameters and outputs stay float32.
    """

    backbone: nn.Module
    width: int | None = None
    projector: Sequence[int] = ()
    predictor: Sequence[int] = ()
    centres: Sequence[int] = ()
    dtype: Dtype | None = None

    backbone_endpoint = "pooled"
    """The endpoint up to which parameters are the backbone's; see `tasks.stages.stage_depths`."""

    def setup(self) -> None:
        """Give the backbone's parameters the names that they have without this."""
        nn.share_scope(self, self.backbone)

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch compared"], dict[str, Array]]:
        """Embed images; see the class."""
        _, found = self.backbone(images, train)
        endpoints = {_RENAMED.get(name, name): value for name, value in found.items()}
        endpoints.pop("logits", None)
        x = endpoints["pooled"]
        if self.width is not None:
            x = nn.Dense(self.width, dtype=self.dtype, name="embedding_head")(x)
        x = x.astype(jnp.float32)
        squares = jnp.sum(jnp.square(x), -1, keepdims=True)
        endpoints["embedding"] = x * jax.lax.rsqrt(jnp.maximum(squares, _TINY))
        x = _MLP(self.projector, self.dtype, name="projector")(x, train)
        if self.predictor:
            widths = (*self.predictor, x.shape[-1])
            endpoints["prediction"] = _MLP(widths, self.dtype, name="predictor")(x, train)
        if self.centres:
            shape = (*self.centres, x.shape[-1])
            endpoints["centres"] = self.param("centres", _unit_normal, shape)
        return x, endpoints


class _MLP(nn.Module):
    """Dense layers with batch norm and ReLU between them; none leave their input as it is."""

    widths: Sequence[int]
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch _"], train: bool) -> Float[Array, "batch _"]:
        for number, width in enumerate(self.widths, start=1):
            last = number == len(self.widths)
            x = nn.Dense(width, use_bias=last, dtype=self.dtype, name=f"dense{number}")(x)
            if not last:
                x = nn.relu(layers.BatchNorm(name=f"norm{number}")(x, train))
        return x.astype(jnp.float32)


_unit_normal = nn.initializers.lecun_normal(in_axis=-1, out_axis=0)  # of length 1 on average
_RENAMED = {"embedding": "pooled"}
_TINY = 1e-24  # the square of a length that counts as zero
