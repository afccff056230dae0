"""Vision transformers: patches as tokens, with timm's names and weights.

Dosovitskiy et al., "An image is worth 16x16 words", 2021; registers of Darcet et al., "Vision
transformers need registers", 2024; layer scale of Touvron et al., "Going deeper with image
transformers", 2021; the image towers of CLIP (Radford et al., "Learning transferable visual models
from natural language supervision", 2021) and SigLIP (Zhai et al., "Sigmoid loss for language image
pre-training", 2023). A parameter of timm is found here by its name, dots as levels.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from vision_jax.models import layers
from vision_jax.models.positions import Resampling, resample_positions
from vision_jax.models.transformer import (
    Activation,
    AttentionPool,
    Blocks,
    Tokens,
    layer_norm,
)

_init = nn.initializers.truncated_normal(0.02)


class VisionTransformer(nn.Module):
    """Patch embedding, blocks of attention and a two-layer perceptron, and a dense output.

    Called with images (B, H, W, C) in [0, 1], whose sides are multiples of the patch, it returns
    the logits (B, num_classes) and the endpoints `stage1`, `stage2`, ... (the patches' tokens after
    each block, (B, H / patch, W / patch, width)), `features` (the last of them, normalised),
    `embedding` (B, width, or `projection`) and `logits`. With `attention`, the endpoints
    `attention1`, `attention2`, ... are the weights of each block, (B, heads, tokens, tokens), where
    the class token and registers come first; `attention_pool`, (B, heads, 1, tokens), those of the
    pooling.

    Attributes:
        patch: Height and width of a patch.
        width: Width of a token.
        depth: Number of blocks.
        heads: Attention heads of each block.
        image_size: Height and width of the images that the position embeddings are for; those of
            other images are interpolated.
        num_classes: Width of the output; 0 for none, which makes the embedding the output.
        pool: The embedding: "token" (the class token), "mean" (of the patches' tokens), both after
            the last normalisation, or "map" (an attention with a learned query, as in SigLIP).
        class_token: Whether there is a class token.
        registers: Number of further tokens that no output is taken from.
        layer_scale: Initial factor of each branch of a block; None for no factors.
        pre_norm: Whether tokens are normalised before the first block, as in CLIP.
        activation: "gelu", "gelu_tanh" (its approximation) or "quick_gelu" (CLIP's).
        drop_path: Fraction of images whose last block is skipped in training; earlier blocks are
            skipped proportionally less (stochastic depth).
        mean: Mean to subtract from the images; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
        dtype: Type to compute in, such as bfloat16. Parameters, embedding and logits stay float32.
        fc_norm: Whether the embedding is normalised after the pooling, and the tokens not before,
            as timm does for "mean".
        projection: Width of a projection without bias of what is pooled, which becomes the
            embedding, as in CLIP; 0 for none.
        mlp_width: Width of the perceptrons' hidden layer; four times `width` if None.
        epsilon: Added to the variance in each normalisation.
        resampling: How positions are interpolated, see `resample_positions`.
        attention: Whether attention weights are endpoints.

    Raises:
        ValueError: If the patches do not tile the image, the heads do not divide the width, or the
            class token is to be the embedding and there is none.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    image_size: int = 224
    num_classes: int = 1000
    pool: Literal["token", "mean", "map"] = "token"
    class_token: bool = True
    registers: int = 0
    layer_scale: float | None = None
    pre_norm: bool = False
    activation: Activation = "gelu"
    drop_path: float = 0.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    dtype: Dtype | None = None
    fc_norm: bool = False
    projection: int = 0
    mlp_width: int | None = None
    epsilon: float = 1e-6
    resampling: Resampling = "antialias"
    attention: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> tuple[Float[Array, "batch out"], dict[str, Array]]:
        """Classify images; see the class."""
        self._check()
        grid = self._grid(images)
        x = self._embed(layers.normalize(images, self.mean, self.std), grid)
        stages, weights = self._blocks()(x, train)
        endpoints = {f"stage{n}": self._patches(y, grid) for n, y in enumerate(stages, start=1)}
        if self.attention:
            endpoints |= {f"attention{n}": y for n, y in enumerate(weights, start=1)}
        x = stages[-1] if self.fc_norm else layer_norm("norm", stages[-1], self.epsilon)
        endpoints["features"] = self._patches(x, grid)
        endpoints |= self._pool(x, endpoints["features"])
        embedding = endpoints["embedding"]
        if not self.num_classes:
            return embedding, endpoints
        head = nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=_init, name="head")
        endpoints["logits"] = head(embedding).astype(jnp.float32)
        return endpoints["logits"], endpoints

    def _check(self) -> None:
        if self.pool == "token" and not self.class_token:
            raise ValueError('pool is "token" without class_token, needs "mean" or "map"')
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, needs a multiple of heads, {self.heads}")

    def _grid(self, images: Array) -> tuple[int, int]:
        height, width = images.shape[1:3]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"images are {height}x{width}, need sides that are multiples of the patch "
                f"of {self.patch}"
            )
        return height // self.patch, width // self.patch

    def _embed(self, x: Array, grid: tuple[int, int]) -> Tokens:
        """Turn images to tokens: the class token, registers, then patches, with positions."""
        x = _PatchEmbed(self.width, self.patch, not self.pre_norm, self.dtype, name="patch_embed")(
            x
        )
        side, extra = self.image_size // self.patch, int(self.class_token)
        shape = (1, side * side + extra, self.width)
        positions = self.param("pos_embed", _init, shape, jnp.float32)
        own, places = positions[:, :extra], positions[:, extra:]
        places = resample_positions(places, (side, side), grid, self.resampling)
        x = x + places.astype(x.dtype)
        x = jnp.concatenate([*self._prefix(own, x), x], 1)
        return layers.stage(layer_norm("norm_pre", x, self.epsilon) if self.pre_norm else x)

    def _prefix(self, own: Array, x: Tokens) -> list[Array]:
        """Return the class token at its position, and the registers, which have none."""
        tokens = []
        if self.class_token:
            shape = (1, 1, self.width)
            tokens.append(self.param("cls_token", _init, shape, jnp.float32) + own)
        if self.registers:
            shape = (1, self.registers, self.width)
            tokens.append(self.param("reg_token", _init, shape, jnp.float32))
        batch = x.shape[0]
        return [jnp.broadcast_to(t, (batch, *t.shape[1:])).astype(x.dtype) for t in tokens]

    def _blocks(self) -> Blocks:
        return Blocks(
            self.depth,
            self.heads,
            self.layer_scale,
            self.activation,
            self.drop_path,
            self.mlp_width,
            self.epsilon,
            self.dtype,
            name="blocks",
        )

    def _patches(self, x: Tokens, grid: tuple[int, int]) -> Float[Array, "batch rows columns _"]:
        return x[:, -grid[0] * grid[1] :].reshape(x.shape[0], *grid, -1)

    def _pool(
        self, x: Tokens, features: Float[Array, "batch rows columns dim"]
    ) -> dict[str, Array]:
        """Return the endpoint `embedding`, and the attention of the pooling where asked for."""
        endpoints = {}
        if self.pool == "map":
            pool = AttentionPool(
                self.heads,
                self.activation,
                self.mlp_width,
                self.epsilon,
                self.dtype,
                name="attn_pool",
            )
            pooled, weights = pool(x)
            if self.attention:
                endpoints["attention_pool"] = weights
        else:
            pooled = x[:, 0] if self.pool == "token" else layers.global_average(features)
        if self.fc_norm:
            pooled = layer_norm("fc_norm", pooled, self.epsilon)
        if self.projection:
            dense = partial(nn.Dense, use_bias=False, dtype=self.dtype, kernel_init=_init)
            pooled = dense(self.projection, name="projection")(pooled)
        return {**endpoints, "embedding": pooled.astype(jnp.float32)}


class _PatchEmbed(nn.Module):
    width: int
    patch: int
    use_bias: bool
    dtype: Dtype | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Tokens:
        x = layers.Conv(
            self.width,
            self.patch,
            self.patch,
            "VALID",
            use_bias=self.use_bias,
            dtype=self.dtype,
            name="proj",
        )(x)
        return x.reshape(x.shape[0], -1, self.width)


_TINY = partial(VisionTransformer, width=192, heads=3)
_SMALL = partial(VisionTransformer, width=384, heads=6)
_BASE = partial(VisionTransformer, width=768, heads=12)
_LARGE = partial(VisionTransformer, width=1024, depth=24, heads=16)
_HUGE = partial(VisionTransformer, width=1280, depth=32, heads=16)
_SO400M = partial(VisionTransformer, width=1152, depth=27, heads=16, mlp_width=4304)
_DINO = {"patch": 14, "image_size": 518, "num_classes": 0, "layer_scale": 1e-5}
_CLIP = {"pre_norm": True, "epsilon": 1e-5, "num_classes": 0, "projection": 512}
_CLIP_LARGE = {**_CLIP, "patch": 14, "projection": 768}
_QUICK: dict[str, Any] = {"activation": "quick_gelu"}
_SIGLIP: dict[str, Any] = {
    "class_token": False,
    "pool": "map",
    "activation": "gelu_tanh",
    "num_classes": 0,
}

vit_tiny_patch16_224 = _TINY
vit_small_patch16_224 = _SMALL
vit_small_patch32_224 = partial(_SMALL, patch=32)
vit_base_patch16_224 = _BASE
vit_base_patch32_224 = partial(_BASE, patch=32)
vit_large_patch16_224 = _LARGE
vit_large_patch32_224 = partial(_LARGE, patch=32)
vit_huge_patch14_224 = partial(_HUGE, patch=14)
vit_tiny_patch16_384 = partial(_TINY, image_size=384)
vit_small_patch16_384 = partial(_SMALL, image_size=384)
vit_base_patch16_384 = partial(_BASE, image_size=384)
vit_base_patch32_384 = partial(_BASE, patch=32, image_size=384)
vit_large_patch16_384 = partial(_LARGE, image_size=384)
vit_small_patch14_dinov2 = partial(_SMALL, **_DINO)
vit_base_patch14_dinov2 = partial(_BASE, **_DINO)
vit_large_patch14_dinov2 = partial(_LARGE, **_DINO)
vit_small_patch14_reg4_dinov2 = partial(_SMALL, **_DINO, registers=4)
vit_base_patch14_reg4_dinov2 = partial(_BASE, **_DINO, registers=4)
vit_large_patch14_reg4_dinov2 = partial(_LARGE, **_DINO, registers=4)
vit_base_patch32_clip_224 = partial(_BASE, **_CLIP, patch=32)
vit_base_patch16_clip_224 = partial(_BASE, **_CLIP)
vit_large_patch14_clip_224 = partial(_LARGE, **_CLIP_LARGE)
vit_large_patch14_clip_336 = partial(_LARGE, **_CLIP_LARGE, image_size=336)
vit_base_patch32_clip_quickgelu_224 = partial(_BASE, **_CLIP, **_QUICK, patch=32)
vit_base_patch16_clip_quickgelu_224 = partial(_BASE, **_CLIP, **_QUICK)
vit_large_patch14_clip_quickgelu_224 = partial(_LARGE, **_CLIP_LARGE, **_QUICK)
vit_large_patch14_clip_quickgelu_336 = partial(_LARGE, **_CLIP_LARGE, **_QUICK, image_size=336)
vit_base_patch16_siglip_224 = partial(_BASE, **_SIGLIP)
vit_base_patch16_siglip_256 = partial(_BASE, **_SIGLIP, image_size=256)
vit_base_patch16_siglip_384 = partial(_BASE, **_SIGLIP, image_size=384)
vit_large_patch16_siglip_256 = partial(_LARGE, **_SIGLIP, image_size=256)
vit_large_patch16_siglip_384 = partial(_LARGE, **_SIGLIP, image_size=384)
vit_so400m_patch14_siglip_224 = partial(_SO400M, **_SIGLIP, patch=14)
