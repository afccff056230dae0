"""Transformer blocks over tokens: attention and a perceptron, each after a layer norm."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers

Tokens = Float[Array, "batch tokens dim"]
Heads = Float[Array, "batch _ heads head_dim"]
Weights = Float[Array, "batch heads queries keys"]
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
        mlp_width: Width of the perceptron's hidden layer; four times the tokens' if None.
        epsilon: Added to the variance in each normalisation.
        dtype: Type to compute in.
    """

    depth: int
    heads: int
    layer_scale: float | None
    activation: Activation
    drop_path: float
    mlp_width: int | None
    epsilon: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens, train: bool) -> tuple[list[Tokens], list[Weights]]:
        """Return the tokens after each block, and the weights of its attention."""
        outputs, weights = [], []
        for number in range(self.depth):
            x, seen = _Block(
                self.heads,
                self.layer_scale,
                self.activation,
                self.drop_path * number / max(1, self.depth - 1),
                self.mlp_width,
                self.epsilon,
                self.dtype,
                name=str(number),
            )(x, train)
            outputs.append(x)
            weights.append(seen)
        return outputs, weights


class _Block(nn.Module):
    heads: int
    layer_scale: float | None
    activation: Activation
    drop_path: float
    mlp_width: int | None
    epsilon: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens, train: bool) -> tuple[Tokens, Weights]:
        y = layer_norm("norm1", x, self.epsilon)
        y, weights = _Attention(self.heads, self.dtype, name="attn")(y)
        x = x + self._branch(y, "ls1", train)
        y = layer_norm("norm2", x, self.epsilon)
        y = _Perceptron(self.activation, self.mlp_width, self.dtype, name="mlp")(y)
        return layers.stage(x + self._branch(y, "ls2", train)), weights

    def _branch(self, y: Tokens, name: str, train: bool) -> Tokens:
        if self.layer_scale is not None:
            y = _LayerScale(self.layer_scale, name=name)(y)
        drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)
        return drop(y)


class _Attention(nn.Module):
    heads: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens) -> tuple[Tokens, Weights]:
        batch, tokens, width = x.shape
        qkv = nn.Dense(3 * width, dtype=self.dtype, kernel_init=_init, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, -1), 2, 0)
        x, weights = _attend(query, key, value)
        return nn.Dense(width, dtype=self.dtype, kernel_init=_init, name="proj")(x), weights


def _attend(query: Heads, key: Heads, value: Heads) -> tuple[Float[Array, "batch _ dim"], Weights]:
    """Average values by their keys' likeness to each query; return the weights (float32) too."""
    scale = jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * scale, key)
    weights = jax.nn.softmax(scores.astype(jnp.float32))
    x = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
    return x.reshape(*x.shape[:2], -1), weights


class AttentionPool(nn.Module):
    """Pool tokens by the attention of a learned query, then a perceptron.

    As SigLIP does: Zhai et al., "Scaling vision transformers", 2022.

    Attributes:
        heads: Attention heads.
        activation: As for `Blocks`.
        mlp_width: As for `Blocks`.
        epsilon: As for `Blocks`.
        dtype: Type to compute in.
    """

    heads: int
    activation: Activation
    mlp_width: int | None
    epsilon: float
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens) -> tuple[Float[Array, "batch dim"], Weights]:
        """Return the pooled token, and the weights (B, heads, 1, tokens) of each token in it."""
        batch, _, width = x.shape
        latent = self.param("latent", _init, (1, 1, width), jnp.float32)
        latent = jnp.broadcast_to(latent.astype(x.dtype), (batch, 1, width))
        query, key, value = _QueryKeyValue(self.heads, self.dtype, name="qkv")(latent, x)
        x, weights = _attend(query, key, value)
        x = nn.Dense(width, dtype=self.dtype, kernel_init=_init, name="proj")(x)
        y = layer_norm("norm", x, self.epsilon)
        y = _Perceptron(self.activation, self.mlp_width, self.dtype, name="mlp")(y)
        return (x + y)[:, 0], weights


class _QueryKeyValue(nn.Module):
    """The projections of an attention between two sets of tokens, in one kernel."""

    heads: int
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch _ dim"], seen: Tokens) -> tuple[Heads, Heads, Heads]:
        width = x.shape[-1]
        kernel = self.param("kernel", _init, (width, 3 * width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (3 * width,), jnp.float32)
        x, seen, kernel, bias = promote_dtype(x, seen, kernel, bias, dtype=self.dtype)
        kernels, biases = jnp.split(kernel, 3, -1), jnp.split(bias, 3)
        query, key, value = (
            (tokens @ kernel + bias).reshape(*tokens.shape[:2], self.heads, -1)
            for tokens, kernel, bias in zip((x, seen, seen), kernels, biases, strict=True)
        )
        return query, key, value


class _Perceptron(nn.Module):
    activation: Activation
    hidden: int | None
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        width = x.shape[-1]
        hidden = self.hidden or 4 * width
        x = nn.Dense(hidden, dtype=self.dtype, kernel_init=_init, name="fc1")(x)
        x = _ACTIVATIONS[self.activation](x)
        return nn.Dense(width, dtype=self.dtype, kernel_init=_init, name="fc2")(x)


class _LayerScale(nn.Module):
    initial: float

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        start = nn.initializers.constant(self.initial)
        return x * self.param("gamma", start, (x.shape[-1],), jnp.float32).astype(x.dtype)


def layer_norm(name: str, x: Float[Array, "*_ dim"], epsilon: float) -> Float[Array, "*_ dim"]:
    """Normalise each token, in float32; call it within a module, whose child the layer becomes.

    Args:
        name: The layer's name.
        x: Tokens.
        epsilon: Added to the variance.

    Returns:
        The normalised tokens, of the type of `x`.
    """
    norm = nn.LayerNorm(epsilon=epsilon, name=name)
    return norm(x.astype(jnp.float32)).astype(x.dtype)
