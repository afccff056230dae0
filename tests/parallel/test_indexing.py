"""`vision-jax index` in two processes over loopback, against one; one of them is killed."""

import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.gallery import load_index

HEARTBEAT = 3
# Each batch is a part, and its images are logged; the process that is told to dies at its second.
COMMAND = """
import os, signal, sys
from vision_jax.cli import main
from vision_jax.gallery import shares
from vision_jax.training.steps import DataParallel
shares.SECONDS = 0
DataParallel.row_sizes = lambda *_: (128, 4)
add, log, batches = shares.OpenPart.add, sys.argv.pop(1), []
dies = sys.argv.pop(1) == "dies"
def logged(part, vectors, rows):
    if dies and batches:
        os.kill(os.getpid(), signal.SIGKILL)
    add(part, vectors, rows)
    batches.append(len(rows))
    with open(log, "a") as file:
        file.writelines(row["key"] + "\\n" for row in rows)
shares.OpenPart.add = logged
sys.exit(main())
"""


def by_hand(port, number):
    words = f"--distributed.coordinator 127.0.0.1:{port} --distributed.processes 2"
    return [*words.split(), "--distributed.process-id", str(number)], {}


def by_open_mpi(port, number):
    """As version 4's mpirun would start it; JAX makes the port from the job's number."""
    return ["--distributed.auto"], {
        "OMPI_MCA_orte_hnp_uri": f"{(port % 4096) * 4096}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(number),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
    }


def index(words, log, *, start=by_hand, dies=None):
    """Return the exit codes of two processes, and what each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    members = []
    for number in range(2):
        group, added = start(port, number)
        fate = "dies" if number == dies else "lives"
        command = [sys.executable, "-c", COMMAND, str(log), fate, "index", *words, *group]
        command += ["--distributed.heartbeat", str(HEARTBEAT)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        members.append(subprocess.Popen(command, env={**os.environ, **added}, **streams))
    try:
        printed = [member.communicate(timeout=300)[0] for member in members]
    finally:
        for member in members:
            member.kill()
    return [member.returncode for member in members], printed


def said(text):
    """Return the lines of a text but for its progress bars."""
    return [line for line in re.split(r"[\r\n]", text) if line.strip() and "img/s" not in line]


@pytest.mark.slow
def test_a_killed_process_is_named_and_no_image_is_embedded_twice(workdir, tmp_path):
    out, log = tmp_path / "digits.index", tmp_path / "log"
    words = [str(workdir), "--images", "digits", "--split", "all", "--out", str(out)]
    codes, printed = index(words, log, start=by_open_mpi, dies=1)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, 2)
    lost = f"process 1 on {socket.gethostname()} was lost"
    again = f"rerun the same command in every process to resume from {out}.parts"
    assert said(printed[0]) == [f"vision-jax: {lost}; {again}"]
    assert not out.exists()
    before = len(log.read_text().splitlines())
    assert 0 < before < 1797
    codes, printed = index(words, log)
    assert codes == [0, 0], printed
    assert f"1797 images -> {out} (1797 embedded, {before} of them before" in printed[0]
    assert printed[1] == ""
    embedded = log.read_text().splitlines()
    assert len(embedded) == len(set(embedded)) == 1797
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.index", "log"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vision_jax.training.steps.DataParallel.row_sizes", lambda *_: (128, 4))
        assert main(["index", *words[:-1], str(tmp_path / "one.index")]) == 0
    assert out.read_bytes() == (tmp_path / "one.index").read_bytes()


@pytest.mark.slow
def test_an_image_that_one_cannot_read_is_named_by_both(workdir, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "shards"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(400):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{i:03}.png")
    bad = max(folder.iterdir())
    bad.write_bytes(bad.read_bytes()[:40])
    words = [str(workdir), "--images", str(folder), "--out", str(out), "--shards", "2"]
    codes, printed = index(words, tmp_path / "log")
    assert codes == [2, 2], printed
    for text in printed:
        (line,) = said(text)
        assert line.startswith(f"vision-jax: {bad} ")
    assert not out.exists()
    codes, printed = index([*words, "--bad-files", "skip"], tmp_path / "log")
    assert codes == [0, 0], printed
    assert f"skipped 1 of 400 images: {bad} " in printed[0]
    found = load_index(out)
    assert sorted(row["key"] for row in found.metadata(found.ids)) == sorted(
        str(path) for path in folder.iterdir() if path != bad
    )
    embedded = (tmp_path / "log").read_text().splitlines()
    assert len(embedded) == len(set(embedded)) == 399
