"""Figures in the docs are those that the experiments wrote."""

import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPARED = ("pixels 16x16, centred", "Lite0 at 224x224, frozen, centred")
METRICS = ("map@r", "precision@10")
STEPS = ("cnn", "autoencoder", "gan", "resnet50-float32", "resnet50-bfloat16")


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
    styles = {line[0]: line[1:] for line in lines if len(line) == 5}
    assert len(styles) == 2 + 3 * len(result["others"])  # with the heading and the line below
    for style, rows in result["others"].items():
        for name, row in rows.items():
            less = [row[f"less {other}"]["recall@1"] for other in COMPARED]
            assert [cell.replace("*", "") for cell in styles[f"{style}, {name}"]] == [
                "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row["both"]["recall@1"]),
                f"{row['both']['recall@10']['mean']:.3f}",
                *map(signed, less),
            ]
    fitted = result["rows"]["Lite0 at 224x224, discriminant"][f"less {COMPARED[1]}"]["recall@1"]
    assert signed(fitted) in section
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


def on_a(card):
    """Return what a run of accelerator.py stored, and the table's lines of the card's section."""
    result = result_of(f"accelerator_{card.lower()}")
    text = (ROOT / "docs/accelerators.md").read_text()
    section = text.split(f"\n## On an {card}\n")[1].split("\n## ")[0]
    assert result["device"] in section
    lines = {tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in section.splitlines()}
    return result["sections"], lines


def timed_steps(parts, names):
    """Return the lines of a table of steps."""
    return {
        (
            f"{row['network']}, {row['batch']:,}",
            row["contender"],
            f"{1000 * row['seconds']:.2f}",
            f"{row['images_per_second']:,.0f}",
        )
        for name in names
        for row in parts[name]["rows"]
    }


def test_accelerator_on_an_h200():
    parts, lines = on_a("H200")
    assert timed_steps(parts, (*STEPS, "embedding")) <= lines
    for row in parts["search-1m"]["rows"] + parts["search-10m"]["rows"]:
        rate = f"{row['queries_per_second']:,.0f}"
        named = f"{row['items']:,}", f"{row['queries']:,}", row["contender"]
        assert (*named, f"{1000 * row['seconds']:.2f}", rate) in lines
    readme = (ROOT / "README.md").read_text()
    for row in parts["search-10m"]["rows"]:
        if row["queries"] == 4096 and "TF32" not in row["contender"]:
            assert f"{row['queries_per_second']:,.0f}" in readme


def test_accelerator_on_an_h100():
    parts, lines = on_a("H100")
    assert timed_steps(parts, STEPS) <= lines
    for row in parts["correctness"]["rows"]:
        if "gradient" in row["errors"]:
            errors = [f"{row['errors'][name]:.1e}" for name in ("loss", "gradient")]
            assert (row["check"].replace(", one step", ""), *errors) in lines
    readme = (ROOT / "README.md").read_text()
    trained = [row["images_per_second"] for row in parts["resnet50-bfloat16"]["rows"]]
    for rate in trained:
        assert f"{rate:,.0f}" in readme
    second = ROOT / "experiments/results/accelerator_h100_second.json"
    parts = json.loads(second.read_text())["sections"]
    for row in parts["embedding"]["rows"] + parts["data"]["rows"]:
        train = "train " if "images" in row else ""
        named = f"{train}{row['network']}, {row['batch']:,}"
        seen = row.get("contender") or f"images {row['images']}"
        assert (named, seen, f"{row['images_per_second']:,.0f}") in lines


def section_of(heading):
    """Return the result page's section, and its tables' cells without emphasis."""
    text = (ROOT / "docs/results.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return section, [
        [cell.strip().replace("*", "") for cell in line.split("|")[1:-1]] for line in lines
    ]


def result_of(name):
    return json.loads((ROOT / f"experiments/results/{name}.json").read_text())


def signed(row):
    return "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**row)


def test_unseen_classes():
    result, (section, cells) = result_of("unseen_classes"), section_of("Unseen classes")
    assert result["command"] in section
    assert len(result["splits"]) == 5
    lines = iter([line for line in cells if line[0] != "---"])
    for metric in METRICS:
        assert next(lines)[1].lower() == metric
        for name, row in result["rows"].items():
            deviation = statistics.stdev(row[metric]["splits"])
            pixels, entropy = (row.get(f"less {name}") for name in ("pixels", "cross-entropy"))
            assert next(lines) == [
                name,
                f"{row[metric]['mean']:.3f} ± {deviation:.3f}",
                signed(pixels[metric]["queries"]) if pixels else "",
                signed(pixels[metric]["splits"]) if pixels else "",
                signed(entropy[metric]["queries"]) if entropy else "",
                signed(entropy[metric]["splits"]) if entropy else "",
            ], (metric, name)
    assert next(lines) == ["vectors, all ten classes seen", "MAP@R", "precision@10"]
    for name, row in result["rows"].items():
        assert next(lines) == [name, *(f"{row['seen'][kind]:.3f}" for kind in METRICS)], name


def table_of(heading):
    """Return a section and its tables' rows by their first cell."""
    section, cells = section_of(heading)
    return section, {line[0]: line[1:] for line in cells}


def repeated(row, digits=4):
    """Format a mean and, of several repetitions, its deviation."""
    mean = f"{row['mean']:.{digits}f}"
    count = len(row["values"])
    if count == 1:
        return f"{mean} (one seed)"
    few = "" if count == 3 else f" ({count} seeds)"  # the page says that three are usual
    return f"{mean} ± {row['deviation']:.{digits}f}{few}"


def test_autoencoders():
    result, (section, table) = result_of("autoencoder_fashion_mnist"), table_of("Autoencoders")
    assert result["command"] in section
    assert len(result["seeds"]) == 3
    for name, (_, error, of_pca, accuracy) in list(table.items())[2:]:
        (row,) = (row for kind, row in result["rows"].items() if name.startswith(kind))
        assert error == repeated(row["mean_squared_error"], 5), name
        assert of_pca == f"{row['pca_mean_squared_error']['mean']:.5f}", name
        assert accuracy == repeated(row["search by embedding knn_accuracy@10"]), name


def test_residual_networks():
    result, (section, table) = result_of("resnet_fashion_mnist"), table_of("Residual networks")
    assert result["command"] in section
    for name, row in result["rows"].items():
        kinds = ("accuracy", "k-NN", "map@r", "precision@10")
        assert table[name] == [repeated(row[kind]) if kind in row else "" for kind in kinds], name


def test_without_labels():
    result, (section, table) = result_of("without_labels"), table_of("Without labels")
    assert result["command"] in section
    assert table["measured by"] == [*result["rows"]]
    few = [f"100 labels, {way}" for way in ("spread", "fine-tuned", "from scratch")]
    for way in ("k-NN", "linear probe", *few):
        rows = result["rows"].values()
        assert table[way] == [repeated(row[way]) if way in row else "" for row in rows], way


def test_generation():
    result, (section, table) = result_of("gan_fashion_mnist"), table_of("Generation")
    assert result["command"] in section
    assert f"{result['Frechet distance of training images']:.2f}" in section
    rows = result["rows"].values()
    assert table["Fréchet distance"] == [repeated(row["Frechet distance"], 1) for row in rows]
    for way in ("kernel distance", "precision", "recall", "density", "coverage"):
        assert table[way] == [repeated(row[way]) for row in rows], way


CLASSIFIER = {
    "search: accuracy of a vote of the 10 nearest training images": "knn_accuracy@10",
    "search among the test images: precision@10": "precision@10",
    "search among the test images: MAP@R": "map@r",
}


def test_the_classifier():
    """The readme and the page on photos repeat what the page on results says."""
    result = result_of("cnn_fashion_mnist")
    rows, readme = result["rows"], (ROOT / "README.md").read_text()
    section, table = table_of("Classification and search by the classifier")
    assert result["command"] in section
    assert table["accuracy"] == [repeated(rows["accuracy"]), ""]
    for name, metric in CLASSIFIER.items():
        pixels = f"{rows[f'pixels {metric}']['mean']:.4f}"
        assert table[name] == [repeated(rows[f"embedding {metric}"]), pixels], name
    lines = readme.replace("*", "").splitlines()
    for name in ("accuracy", *CLASSIFIER):
        cells = table[name]
        shared = [line for line in lines if line.startswith(f"| {name} |")]
        assert shared in ([], [f"| {name} | {cells[0]} | {cells[1]} |".replace("|  |", "| |")])
    for metric in ("embedding map@r", "pixels map@r"):
        assert f"{rows[metric]['mean']:.3f}" in (ROOT / "docs/photos.md").read_text()


def test_uneven_classes():
    result, (section, table) = result_of("uneven_classes"), table_of("Uneven classes")
    assert result["command"] in section
    for name, row in result["rows"].items():
        assert table[name] == [repeated(row["accuracy"]), repeated(row["rarest"])], name


def test_recipes_compared():
    result, (section, table) = result_of("recipes_compared"), table_of("Augmentation compared")
    assert result["command"] in section
    for name, row in result["rows"].items():
        assert table[name] == [repeated(row["accuracy"])], name


def test_what_to_expect_of_photos():
    """The page on photos repeats a few of the figures."""
    text = (ROOT / "docs/photos.md").read_text()
    rows = result_of("unseen_classes")["rows"]
    for name in ("cross-entropy", "pixels", "Lite0, frozen"):
        assert f"{rows[name]['map@r']['mean']:.3f}" in text, name


def test_recipes_with_few_images():
    result, (section, table) = result_of("recipes_emoji"), table_of("Augmentation with few images")
    assert result["command"] in section
    for name, row in result["rows"].items():
        assert table[name] == [repeated(row["accuracy"], digits=3)], name
