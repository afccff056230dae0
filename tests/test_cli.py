import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.commands.train import parse_options
from vision_jax.data.loader import read_all
from vision_jax.errors import InputError
from vision_jax.run.run import load_run


@pytest.fixture(scope="module")
def index(workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "train.index"
    words = ["index", str(workdir), "--images", "digits", "--split", "train", "--out", str(path)]
    assert main(words) == 0
    return path


@pytest.fixture(scope="module")
def query(workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("query") / "digit.png"
    image = read_all(load_run(workdir).source("test[:1]"))["image"][0]
    Image.fromarray(image[..., 0]).save(path)
    return path


def test_search_prints_neighbours_and_draws_them(index, query, tmp_path, capsys):
    picture = tmp_path / "found.png"
    assert main(["search", str(index), str(query), "--k", "3", "--picture", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(query)
    ranks, scores, labels, keys = zip(*(line.split() for line in lines[1:4]), strict=True)
    assert ranks == ("1", "2", "3")
    assert sorted(map(float, scores), reverse=True) == list(map(float, scores))
    assert all(label in "0123456789" for label in labels)
    assert all(key.startswith("digits/train/") for key in keys)
    assert np.asarray(Image.open(picture)).std() > 0


def test_indexed_images_are_looked_up_among_those_allowed(index, tmp_path, capsys):
    picture = tmp_path / "found.png"
    words = ["--keys", "digits/train/5", "--where", "label=3", "label=8", "--k", "2"]
    assert main(["search", str(index), *words, "--picture", str(picture)]) == 0
    first, *rows, last = capsys.readouterr().out.splitlines()
    assert first == "digits/train/5"
    assert {row.split()[2] for row in rows} <= {"3", "8"}
    assert len(rows) == 2
    assert last.endswith("found.png")
    assert np.asarray(Image.open(picture)).std() > 0


def test_duplicates_are_listed(index, capsys):
    assert main(["duplicates", str(index), "--threshold", "1"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert " groups, 0 of them across splits" in first
    assert all(row.startswith(("group:", "  train")) for row in rest)


def test_evaluate_prints_and_writes_figures(workdir, capsys):
    assert main(["evaluate", str(workdir)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((workdir / "evaluation.json").read_text())
    assert f"{figures['accuracy']:.4f}" in printed
    assert set(figures["retrieval"]) == {"embedding", "pixels"}
    assert len(figures["per_class_accuracy"]) == 10
    assert np.sum(figures["confusion"]) == 360
    assert (workdir / "confusion.png").is_file()


def test_report_writes_a_page(workdir, capsys):
    assert main(["report", str(workdir)]) == 0
    page = (workdir / "report.html").read_text()
    for head in ("Learning curves", "Confusion matrix", "Search", "Nearest images", "Config"):
        assert f"<h2>{head}</h2>" in page
    plots, searches, maps = 4, 10 * 9, 8 * 2 + 8 * 3  # wrong predictions have a map of both classes
    assert page.count("data:image/png;base64,") == plots + searches + maps


def test_prepare_says_what_it_wrote(tmp_path, capsys):
    assert main(["prepare", "digits", "--data-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "train 1437" in printed
    assert "test 360" in printed
    assert (tmp_path / "digits").is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train cnn --workdir {tmp}/new --data.name nothing", "'nothing' is not a data set"),
        ("train cnn --workdir {tmp}/new --epochs 0", "epochs is 0"),
        ("train cnn --workdir {tmp}/new --data.batch-size 0", "--data.batch-size is 0"),
        ("train gan --workdir {tmp}/new --model.dropout 1", "model.dropout is 1.0"),
        ("train cnn --workdir {tmp}/new --data.data-dir {data} --model.padding VALID", "too small"),
        ("train cnn --workdir {tmp}/new --profile 5", "--profile is '5'; START:STOP is needed"),
        (
            "train cnn --workdir {tmp}/new --data.data-dir {data} --epochs 1 --profile 3:99",
            "3:99; START:STOP with 0 <= START < STOP <= 10",
        ),
        (
            "train cnn --workdir {tmp}/new --data.data-dir {data} --class-weights a=b=2.5",
            "--class-weights names a=b; it must name classes of digits",
        ),
        ("train cnn --workdir {tmp}/new --distributed.processes 2", "HOST:PORT is needed"),
        ("train gan --workdir {tmp}/new --data.recipe strong", "light or standard with a gan"),
        (
            "train cnn --workdir {tmp}/new --data.data-dir {data} --data.recipe strong "
            "--data.batch-size 12",
            "a device's batch is 3; it must be even",
        ),
        (
            "train cnn --workdir {tmp}/new --data.data-dir {data} --data.pad-crop 8",
            "--data.pad-crop is 8; it must be in [0, 8)",
        ),
        ("augmentations nothing --out {tmp}/a.html", "'nothing' is not a data set"),
        ("augmentations digits --out {tmp}/gone/a.html", "must exist"),
        ("augmentations digits --seed -1", "--seed is -1"),
        ("train cnn --workdir {run} --epochs 9", "of another config"),
        ("evaluate {tmp}/gone", "holds no run"),
        ("evaluate {run} --split tset", "nothing at 'tset'"),
        ("evaluate {run} --checkpoint 7", "has no step 7"),
        ("evaluate {run} --checkpoint worst", "must be best, last or a step"),
        ("index {run} --images {tmp}/gone --out {tmp}/x", "is not a data set"),
        ("index {run} --images digits --out {tmp}/gone/x", "must exist"),
        ("search {index} {tmp}/gone.png", "gone.png does not exist"),
        ("search {index} {run}/config.json", "config.json is not a readable image"),
        ("search {index} {query} --k 5000", "k is 5000; it must be in [1, 1437]"),
        ("search {index} {query} --k 0", "k is 0"),
        ("search {run}/config.json {query}", "config.json"),
        ("search {index}", "0 images and 0 keys to look up"),
        ("search {index} --keys gone", "'gone' is not indexed"),
        ("search {index} {query} --where label=11", "no indexed image meets label=11"),
        ("duplicates {index} --threshold 0", "threshold is 0.0"),
        ("report {tmp}/gone", "holds no run"),
        ("inspect {tmp}/gone", "is not a data set"),
        ("inspect digits --splits tset", "nothing at 'tset'"),
        ("inspect digits --threshold 2", "threshold is 2.0; it must be in (0, 1]"),
        ("inspect digits --channels 2", "--channels is 2; it must be 1 or 3"),
        ("inspect digits --image-size 0", "--image-size is 0; it must be at least 1"),
        ("inspect digits --out {tmp}/gone/page.html", "must exist"),
        ("inspect digits --workdir {tmp}/gone", "holds no run"),
        (
            "inspect digits --image-size 4 --workdir {run}",
            "is read as (4, 4, 1); the run in",
        ),
        ("prepare cifar10", "vision_jax[prepare]"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    words, message, workdir, index, query, data_dir, tmp_path, capsys
):
    places = {"run": workdir, "index": index, "query": query, "data": data_dir, "tmp": tmp_path}
    assert main(words.format(**places).split()) == 2
    printed = capsys.readouterr()
    line = printed.err.rpartition("\r")[2]  # a slow machine shows a bar first, and wipes it
    assert message in line
    assert line.startswith("vision-jax: ")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_option_is_given_once_and_a_class_may_be_called_a_b():
    assert parse_options(["pool=a=b", "stages=[4, 8]"]) == {"pool": "a=b", "stages": [4, 8]}
    assert parse_options(["a=b=2", "c=0.5"], numbers=True) == {"a=b": 2, "c": 0.5}
    with pytest.raises(InputError, match="an option is 'a=2'; a must be given once"):
        parse_options(["a=1", "a=2"])


@pytest.mark.parametrize("words", [[], ["nothing"], ["evaluate"], ["train"], ["train", "rnn"]])
def test_words_that_are_no_command_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "cnn", "--help"]])
def test_help_comes_without_loading_jax_or_numpy(words):
    code = (
        "import sys; from vision_jax.cli import main\n"
        f"try: main({words})\nexcept SystemExit as end: assert end.code == 0\n"
        "assert not {'jax', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cnn" in done.stdout


@pytest.mark.parametrize("flag", [[], ["--no-compilation-cache"]])
def test_compiled_programs_are_kept_unless_told_not_to(flag, tmp_path):
    code = (
        "import os, sys; from vision_jax.cli import main\n"
        f"assert main({[*flag, 'evaluate', str(tmp_path / 'gone')]}) == 2\n"
        "import jax; print(jax.config.jax_compilation_cache_dir)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    folder = tmp_path / "vision_jax" / "xla"
    folder.mkdir(parents=True)
    (folder / "whole-cache").write_bytes(b"program")
    (folder / "cut-off-cache").touch()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("None" if flag else str(folder))
    assert (folder / "whole-cache").exists()
    assert (folder / "cut-off-cache").exists() == bool(flag)


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_goes_on(config, data_dir, tmp_path):
    words = [
        *(sys.executable, "-m", "vision_jax.cli", "train", "cnn", "--epochs", "200"),
        *("--workdir", str(tmp_path / "run"), "--data.data-dir", str(data_dir)),
        *("--data.batch-size", "64", "--model.stages", "16", "--model.hidden", "64"),
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 2/200" in line:
                break
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 0, rest
        assert time.monotonic() - begun < 30
    assert "stopped and saved at step" in rest
    run = load_run(tmp_path / "run", "last")
    assert 40 <= run.step < 200 * 20


def test_an_interrupted_command_ends_with_one_line(index, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("vision_jax.gallery.lookup.load_index", interrupted)
    assert main(["duplicates", str(index)]) == 130
    assert capsys.readouterr().err == "vision-jax: interrupted\n"


def test_a_closed_pipe_ends_a_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "vision_jax", "--help"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_pipe_that_is_not_the_output_is_an_error(index, monkeypatch, capfd):
    def broken(*args):
        raise BrokenPipeError("a reader is lost")

    monkeypatch.setattr("vision_jax.gallery.lookup.load_index", broken)
    assert main(["duplicates", str(index)]) == 1
    assert capfd.readouterr().err == "vision-jax: a reader is lost\n"


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path):
    # A shell starts what runs in the background with this signal ignored.
    code = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    (tmp_path / "tyro.py").write_text(f"import signal; {code}; signal.raise_signal(signal.SIGINT)")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-m", "vision_jax", "--help"], capture_output=True, env=environment
    )
    assert (done.returncode, done.stderr) == (130, b"vision-jax: interrupted\n")


def test_a_cache_that_has_grown_too_large_loses_what_was_read_longest_ago(tmp_path, monkeypatch):
    folder = tmp_path / "vision_jax" / "xla"
    folder.mkdir(parents=True)
    for age, name in enumerate(["new", "older", "oldest"]):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(variable, "to be restored")
        monkeypatch.delenv(variable)
    monkeypatch.setattr("vision_jax.cli._CACHE_BYTES", 150)
    assert main(["evaluate", str(tmp_path / "gone")]) == 2
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.slow
def test_a_search_that_is_repeated_compiles_nothing(index, query, tmp_path):
    code = (
        "import jax; from vision_jax.cli import main\n"
        "counts = dict.fromkeys(('cache_hits', 'cache_misses'), 0)\n"
        "def count(event, **about):\n"
        "    name = event.rpartition('/')[2]\n"
        "    if name in counts: counts[name] += 1\n"
        "jax.monitoring.register_event_listener(count)\n"
        f"assert main(['search', {str(index)!r}, {str(query)!r}]) == 0\n"
        "print(*counts.values())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    (_, compiled), (read, missed) = (map(int, run.stdout.splitlines()[-1].split()) for run in runs)
    assert missed == 0
    assert compiled <= read <= 24  # programs: more would be operations outside of any jit
