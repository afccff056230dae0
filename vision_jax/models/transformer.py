"""Transformer blocks over tokens: attention and a perceptron, each after a layer norm."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers

Tokens = Float[Array, "batch tokens dim"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]

_init = nn.initializers.truncated_normal(0.02)

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "gelu_tanh": partial(nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
}


class Blocks(nn.Module):
    """A stack of blocks, called `0`, `1`, and so on.

    Attributes:
        depth: Number of blocks.
        heads: Attention heads of each block.
        layer_scale: Initial factor of each branch of a block; None for no factors.
        activation: "gelu", "gelu_tanh" (its approximation) or "quick_gelu" (CLIP's).
        drop_path: Fraction of examples whose last block is skipped in training; earlier blocks are
            skipped proportionally less (Huang et al., "Deep networks with stochastic depth", 2016).
        dtype: Type to compute in.
    """

    depth: int
    heads: int
    layer_scale: float | None
    activation: Activation
    drop_path: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens, train: bool) -> list[Tokens]:
        """Return the tokens after each block."""
        outputs = []
        for number in range(self.depth):
            x = _Block(
                self.heads,
                self.layer_scale,
                self.activation,
                self.drop_path * number / max(1, self.depth - 1),
                self.dtype,
                name=str(number),
            )(x, train)
            outputs.append(x)
        return outputs


class _Block(nn.Module):
    heads: int
    layer_scale: float | None
    activation: str
    drop_path: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens, train: bool) -> Tokens:
        y = _Attention(self.heads, self.dtype, name="attn")(layer_norm("norm1", x))
        x = x + self._branch(y, "ls1", train)
        y = _Perceptron(self.activation, self.dtype, name="mlp")(layer_norm("norm2", x))
        return layers.stage(x + self._branch(y, "ls2", train))

    def _branch(self, y: Tokens, name: str, train: bool) -> Tokens:
        if self.layer_scale is not None:
            y = _LayerScale(self.layer_scale, name=name)(y)
        drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)
        return drop(y)


class _Attention(nn.Module):
    heads: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        batch, tokens, width = x.shape
        qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=_init, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, -1), 2, 0)
        scale = jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query * scale, key)
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(value.dtype)
        x = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, tokens, width)
        return nn.Dense(width, dtype=self.dtype, kernel_init=_init, name="proj")(x)


class _Perceptron(nn.Module):
    activation: str
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        width = x.shape[-1]
        x = nn.Dense(4 * width, dtype=self.dtype, kernel_init=_init, name="fc1")(x)
        x = _ACTIVATIONS[self.activation](x)
        return nn.Dense(width, dtype=self.dtype, kernel_init=_init, name="fc2")(x)


class _LayerScale(nn.Module):
    initial: float

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        start = nn.initializers.constant(self.initial)
        return x * self.param("gamma", start, (x.shape[-1],), jnp.float32).astype(x.dtype)


def layer_norm(name: str, x: Tokens) -> Tokens:
    """Normalise each token, in float32; call it within a module, whose child the layer becomes.

    Args:
        name: The layer's name.
        x: Tokens.

    Returns:
        The normalised tokens, of the type of `x`.
    """
    norm = nn.LayerNorm(epsilon=1e-6, name=name)
    return norm(x.astype(jnp.float32)).astype(x.dtype)
