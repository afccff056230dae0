import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

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
