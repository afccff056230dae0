"""Progress bars: of text in a terminal, and a notebook's own in a notebook."""

import warnings

with warnings.catch_warnings():
    # A notebook without ipywidgets gets bars of text, which needs no warning.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
