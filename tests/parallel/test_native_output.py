"""What the small process drops, and what it says of an end."""

import subprocess
import sys

# Gloo prints a line in pieces, from several threads.
PROGRAM = """
import os, sys
from vision_jax.parallel.native_output import NativeOutput
with NativeOutput("the last checkpoint") as output:
    os.write(1, b"[Gloo] Rank ")
    output.name_peers(["one", "two"])
    {end}
    os.write(1, b"0 is connected to 1 peer ranks. Expected number of connected peer ranks is : ")
    os.write(1, b"[Gloo] Rank 0 is connected to 1\\n1\\n peer ranks.\\n")
    os.write(2, b"a warning of the compiler\\n")
    os.write(2, {native!r})
    print("from Python", file=sys.stderr)
    os._exit(2)
"""
LOST = (
    b"E1127 10:00:00.000000 1 coordination_service.cc:1] These have stopped (missed heartbeats):\n"
    b"1\nF1127 10:00:01.000000 1 client.h:1] Terminating process: distributed service\ntrace\n"
)


def run(end="pass", native=b""):
    """Return the lines that a program prints whose C++ prints these bytes."""
    words = [sys.executable, "-c", PROGRAM.format(end=end, native=native)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    return sorted(filter(None, done.stderr.splitlines()))


def test_an_expected_end_adds_no_line():
    assert run(end="output.expect_end()") == ["a warning of the compiler", "from Python"]


def test_a_lost_process_is_named_by_its_host():
    kept = "rerun the same command in every process to resume from the last checkpoint"
    assert run(native=LOST) == [
        "a warning of the compiler",
        "from Python",
        f"vision-jax: process 1 on two was lost; {kept}",
    ]


def test_an_end_without_a_reason_is_told():
    (told,) = (line for line in run() if line.startswith("vision-jax: "))
    assert "this process was killed or failed" in told
