"""What the builders share."""

from collections.abc import Iterable

import numpy as np

from vision_jax.bars import tqdm


def show_progress(images: np.ndarray, name: str) -> Iterable[np.ndarray]:
    """Pass images through under a progress bar, which shows if they take some seconds."""
    return tqdm(images, desc=f"preparing {name}", unit="img", delay=1, leave=False)
