"""Figures in the docs are those that the experiments wrote."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_emoji_across_vendors():
    result = json.loads((ROOT / "experiments/results/emoji_across_vendors.json").read_text())
    text = (ROOT / "docs/results.md").read_text()
    section = text.split("\n## Emoji across vendors\n")[1].split("\n## ")[0]
    assert result["command"] in section
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    cells = {line[0]: line[1:] for line in lines if len(line) == 4}
    assert set(cells) >= set(result["rows"])
    for name, row in result["rows"].items():
        both, less = row["both"], row["less pixels 16x16, centred"]["recall@1"]
        assert [cell.replace("*", "") for cell in cells[name]] == [
            "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**both["recall@1"]),
            f"{both['recall@10']['mean']:.3f}",
            f"{less['mean']:+.3f} [{less['low']:+.3f}, {less['high']:+.3f}]",
        ]
    for name, change in result["rows"].items():
        for kind in ("recall@1", "recall@10"):
            means = [change[f"{vendor}'s drawing"][kind] for vendor in ("google", "twitter")]
            assert all(found["counted"] == result["emoji"] for found in means), name
    assert re.search(r"!\[.*\]\(images/emoji\.png\)", section)
    assert (ROOT / "docs/images/emoji.png").stat().st_size < 300_000


def test_fine_tuning():
    rows = json.loads((ROOT / "experiments/results/fine_tuning.json").read_text())["rows"]
    text = (ROOT / "docs/results.md").read_text()
    section = text.split("\n## Fine-tuning\n")[1].split("\n## ")[0]
    cells = [
        cell.strip().replace("*", "")
        for line in section.splitlines()
        if line.startswith("| ") and line.count("|") == 6
        for cell in line.split("|")[3:-1]
    ][6:]  # below the heading and the line under it
    ways, images = ("scratch", "probe", "tuned"), ("emoji", "emoji_20", "fashion_100")
    assert cells == [f"{rows[f'{kind}, {way}']['mean']:.3f}" for kind in images for way in ways]
    seeds = {tuple(row["seeds"]) for row in rows.values()}
    assert seeds == {("0",)}, "the page says one seed"


def test_explanations_compared():
    result = json.loads((ROOT / "experiments/results/explanations_compared.json").read_text())
    text = (ROOT / "docs/results.md").read_text()
    section = text.split("\n## Which maps can be trusted\n")[1].split("\n## ")[0]
    assert result["command"] in section
    parts = dict(zip(result["networks"], section.split("\n### ")[1:], strict=True))
    for name, network in result["networks"].items():
        assert parts[name].startswith(name)
        lines = [line.split("|")[1:-1] for line in parts[name].splitlines() if line[:3] == "| `"]
        cells = {line[0].strip(" `"): [cell.strip() for cell in line[1:]] for line in lines}
        assert list(cells) == list(network["methods"])
        for method, row in network["methods"].items():
            wanted = [f"{measured['mean']:.3f}" for measured in row["measures"].values()]
            if "failures" in row:
                wanted.append(f"{row['randomised']:.2f}")
                failed = [failure.split(":")[0] for failure in row["failures"]]
                wanted.append(", ".join(failed) or "nothing")
            else:
                wanted += ["", ""]
            assert cells[method] == wanted, (name, method)
