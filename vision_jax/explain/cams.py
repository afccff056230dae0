"""Class activation maps: the last feature map, its channels weighted by their gradients.

Maps are (B, H, W), brought to the images' resolution by bilinear interpolation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.explain.feature_maps import Images, Network, Score, feature_gradients

Maps = Float[Array, "batch height width"]


def grad_cam(network: Network, score: Score, images: Images, *, layer: str | None = None) -> Maps:
    """Weigh each channel by its average gradient, and keep what is positive.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", 2017.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].
        layer: the map's endpoint, see `feature_gradients`.

    Returns:
        (B, H, W) at least 0.

    Raises:
        InputError: there is no such map, see `feature_gradients`.
    """
    maps, gradients = feature_gradients(network, score, images, layer)
    return _weighed(maps, jnp.mean(gradients, (1, 2)), images)


def grad_cam_plus_plus(
    network: Network, score: Score, images: Images, *, layer: str | None = None
) -> Maps:
    """Weigh each channel by its positive gradients, those of few positions more.

    Chattopadhyay et al., "Grad-CAM++: generalized gradient-based visual explanations for deep
    convolutional networks", 2018. Several instances of a class are found where Grad-CAM marks one.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].
        layer: the map's endpoint, see `feature_gradients`.

    Returns:
        (B, H, W) at least 0.

    Raises:
        InputError: there is no such map, see `feature_gradients`.
    """
    maps, gradients = feature_gradients(network, score, images, layer)
    # With g² taken out of the fraction: in float32 the powers of small gradients vanish.
    total = jnp.sum(maps, (1, 2), keepdims=True)
    denominator = 2 + total * gradients
    shares = jnp.where(denominator == 0, 0, 1 / jnp.where(denominator == 0, 1, denominator))
    return _weighed(maps, jnp.sum(shares * jax.nn.relu(gradients), (1, 2)), images)


def hires_cam(network: Network, score: Score, images: Images, *, layer: str | None = None) -> Maps:
    """Multiply the map by its gradient at each position, and sum over channels.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
    neural networks", 2020. Of a network that ends in one dense layer the map, before it is
    enlarged, sums to the score less the bias.

    Args:
        network: images to output and endpoints.
        score: output and endpoints to what is explained.
        images: (B, H, W, C) in [0, 1].
        layer: the map's endpoint, see `feature_gradients`.

    Returns:
        (B, H, W), negative where the map speaks against the score.

    Raises:
        InputError: there is no such map, see `feature_gradients`.
    """
    maps, gradients = feature_gradients(network, score, images, layer)
    return enlarged(jnp.sum(maps * gradients, -1), images)


def _weighed(
    maps: Float[Array, "batch h w features"],
    weights: Float[Array, "batch features"],
    images: Images,
) -> Maps:
    """Add up channels by their weights, and keep what is positive."""
    return enlarged(jax.nn.relu(jnp.einsum("bhwc,bc->bhw", maps, weights)), images)


def enlarged(maps: Float[Array, "batch h w"], images: Images) -> Maps:
    """Bring maps to the images' resolution by bilinear interpolation."""
    return jax.image.resize(maps, images.shape[:3], "bilinear", antialias=False)
