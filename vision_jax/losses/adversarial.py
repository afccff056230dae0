"""Losses of the generator and the discriminator."""

from flax import linen as nn
from jaxtyping import Array, Float

from vision_jax.config import AdversarialLoss

Logits = Float[Array, " batch"]


def discriminator_losses(loss: AdversarialLoss, logits: Logits, *, real: bool) -> Logits:
    """Compute the discriminator's loss on each real or each generated image.

    Args:
        loss: `non_saturating` and `minimax`: -log D(x) of real and -log(1 - D(x)) of generated
            images, D the sigmoid of the logit (Goodfellow et al., 2014); `hinge`: max(0, 1 - d)
            and max(0, 1 + d) of the logit d (Lim and Ye, 2017).
        logits: (B,).
        real: which of the two the images are.

    Returns:
        (B,) at least 0.
    """
    signed = -logits if real else logits
    return nn.relu(1 + signed) if loss == "hinge" else nn.softplus(signed)


def generator_losses(loss: AdversarialLoss, logits: Logits) -> Logits:
    """Compute the generator's loss on each generated image.

    Args:
        loss: `minimax`: log(1 - D(x)); `non_saturating`: -log D(x), whose gradient does not fade
            while the discriminator wins (Goodfellow et al., 2014, section 3); `hinge`: -d.
        logits: (B,) the discriminator's.

    Returns:
        (B,).
    """
    match loss:
        case "minimax":
            return -nn.softplus(logits)
        case "non_saturating":
            return nn.softplus(-logits)
        case "hinge":
            return -logits
