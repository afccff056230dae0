import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.decode import BadImageError, read_image
from vision_jax.data.pillow_warnings import pillow_warnings_ignored


def test_threads_ignore_pillows_warnings_and_leave_the_filters_as_they_were():
    def read(_):
        with pillow_warnings_ignored():
            warnings.warn_explicit("large", UserWarning, "Image.py", 1, module="PIL.Image")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # threads take turns within a filter's change
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(read, range(2000)))
        finally:
            sys.setswitchinterval(interval)
        assert list(warnings.filters) == before


def test_libtiff_prints_nothing(capfd):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    harmed = bytearray(buffer.getvalue())
    harmed[6000] ^= 1
    with pytest.raises(BadImageError):
        read_image(bytes(harmed), channels=3)
    assert capfd.readouterr() == ("", "")
