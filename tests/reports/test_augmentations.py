import re

import pytest

from vision_jax.augment.policies import OPERATIONS
from vision_jax.augment.recipes import RECIPES
from vision_jax.cli import main


@pytest.mark.slow
def test_the_page_shows_every_recipe_transform_and_operation(data_dir, tmp_path, capsys):
    page = tmp_path / "page.html"
    words = ["augmentations", "digits", "--data-dir", str(data_dir), "--out", str(page)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"augmentations -> {page}\n"
    text = page.read_text()
    heads = re.findall("<h3>(.*?)</h3>", text)
    assert heads[:4] == list(RECIPES)
    assert heads[-14:] == [name.replace("_", " ") for name in OPERATIONS]
    assert {"mixup", "cutmix", "Random erasing", "Affine"} <= set(heads)
    # Four images for each recipe, and a row for everything else.
    rows = 4 * len(RECIPES) + len(heads) - len(RECIPES)
    assert text.count('<div class="cells">') == rows
    assert text.count("data:image/png;base64,") == 9 * rows
    shares = re.findall(r"(\d\.\d\d) \d, (\d\.\d\d) \d", text)
    assert len(shares) == 4 * 8 + 2 * 7
    assert all(0.99 <= float(a) + float(b) <= 1.01 for a, b in shares)
    assert "http" not in text
