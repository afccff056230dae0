import re

import pytest

from vision_jax.augment.policies import OPERATIONS
from vision_jax.augment.recipes import RECIPES
from vision_jax.augment.transforms import TRANSFORMS
from vision_jax.cli import main

SHOWN = [name for name in RECIPES if name != "none"]


@pytest.mark.slow
def test_the_page_shows_every_recipe_transform_and_operation(
    data_dir, tmp_path, capsys, monkeypatch
):
    def invert(keys, images):
        """Invert `every` pixel.

        Args:
            keys: unused.
            images: in [0, 1].
        """
        return 1 - images

    monkeypatch.setitem(TRANSFORMS, "invert", invert)
    page = tmp_path / "page.html"
    words = ["augmentations", "digits", "--data-dir", str(data_dir), "--out", str(page)]
    assert main([*words, "--image-size", "8", "10"]) == 0
    assert capsys.readouterr().out == f"augmentations -> {page}\n"
    text = page.read_text()
    heads = re.findall("<h3>(.*?)</h3>", text)
    operations = [name.replace("_", " ") for name in OPERATIONS]
    assert heads == [*SHOWN, *TRANSFORMS, "mixup", "cutmix", *operations]
    assert "<h3>invert</h3><p>Invert <code>every</code> pixel.</p><div" in text
    assert "<p>With <code>degrees=15, fill=0</code>.</p>" in text
    # Four images for each recipe, and a row for everything else.
    rows = 4 * len(SHOWN) + len(heads) - len(SHOWN)
    assert text.count('<div class="cells">') == rows
    assert text.count("data:image/png;base64,") == 9 * rows
    shares = re.findall(r"(\d+)% \d, (\d+)% \d", text)
    assert len(shares) == 4 * 8 + 2 * 7
    assert all(99 <= int(a) + int(b) <= 101 for a, b in shares)
    assert "http" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], r"--seed is -1; it must be in \[0, 2\*\*32\)"),
        (["--image-size", "0"], "--image-size is 0; it must be at least 1"),
        (["--out", "gone/page.html"], "--out is 'gone/page.html'; the folder gone must exist"),
        (["--out", "page.png"], r"--out is 'page\.png'; its name must end in \.html, \.htm"),
        (["--out", "."], r"--out is '\.'; its name must end in"),
    ],
)
def test_options_out_of_range_are_named(options, message, capsys):
    assert main(["augmentations", "digits", *options]) == 2
    assert re.search(message, capsys.readouterr().err)
