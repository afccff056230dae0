"""How long whole commands take: --help, search, training's first step and quickstart.

Command: python experiments/benchmarks/waiting.py [--python OTHER ...] [--checkout OLD ...]

Each combination of an interpreter and a checkout is a contender. In each turn every contender runs
every command once with an empty home (cold: no compiled programs, no prepared digits) and once more
with what that left behind (warm). Files are in the page cache either way. Printed are the medians,
and the processor's seconds, which tell waiting from a busy machine.
"""

import argparse
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = ("help", "search", "train", "quickstart")
_STEP = re.compile(r" (?!0\.00/)[\d.]+k?/[\d.]+k? \[")  # the bar of the first step that is done
_QUERY = """
from PIL import Image
from sklearn.datasets import load_digits
Image.fromarray((load_digits().images[1500] * 15.9).astype("uint8")).save("query.png")
"""
Key = tuple[str, str, str]


def main() -> None:
    """Parse the command line, take turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", nargs="*", default=[], help="other interpreters")
    parser.add_argument("--checkout", nargs="*", default=[], help="other checkouts to compare")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    options = parser.parse_args()
    pythons = [sys.executable, *options.python]
    checkouts = [str(ROOT), *options.checkout]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    seconds = defaultdict[Key, list[tuple[float, float]]](list)
    with tempfile.TemporaryDirectory() as folder:
        contenders = [
            Contender(python, checkout, Path(folder) / f"{i}{j}")
            for i, python in enumerate(pythons)
            for j, checkout in enumerate(checkouts)
        ]
        if "search" in options.commands:
            for contender in contenders:
                contender.prepare()
        for _ in range(options.turns):
            for command in options.commands:
                for contender in contenders:
                    with tempfile.TemporaryDirectory(dir=folder) as home:
                        for state in ("cold", "warm"):
                            key = (command, state, contender.name)
                            seconds[key].append(contender.run(command, Path(home)))
    print(f"{'':<12}{'':<6}{'seconds':>9}{'CPU':>8}   n={options.turns}")
    for (command, state, name), taken in seconds.items():
        wall, cpu = (statistics.median(part) for part in zip(*taken, strict=True))
        print(f"{command:<12}{state:<6}{wall:>9.2f}{cpu:>8.2f}   {name}")
    print(f"load {os.getloadavg()[0]:.2f}")


class Contender:
    """An interpreter with a checkout.

    Args:
        python: the interpreter.
        checkout: folder that holds `vision_jax`.
        folder: where to keep what it is to search.
    """

    def __init__(self, python: str, checkout: str, folder: Path) -> None:
        version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
        self.name = f"{version.stdout.strip()}, {checkout}"
        self.python, self.checkout, self.folder = python, checkout, folder
        folder.mkdir()

    def prepare(self) -> None:
        """Train the CNN of `quickstart` for an epoch, index its images, write one to look up."""
        subprocess.run([self.python, "-c", _QUERY], cwd=self.folder, check=True)
        index = ("index", "run", "--images", "digits", "--out", "digits.index")
        for words in (self._training("run"), index):
            command = [self.python, "-m", "vision_jax", *words]
            subprocess.run(
                command, cwd=self.folder, env=self._environment(self.folder), check=True,
                capture_output=True,
            )  # fmt: skip

    def run(self, command: str, home: Path) -> tuple[float, float]:
        """Run a command with its caches in a folder.

        Returns:
            Seconds on the clock and of the processor, children included: until the command ends,
            or until training has done its first step.
        """
        work = Path(tempfile.mkdtemp(dir=home))
        words = {
            "help": ("--help",),
            "search": ("search", "digits.index", "query.png"),
            "train": self._training(str(work / "run")),
            "quickstart": ("quickstart", "--workdir", str(work / "runs")),
        }[command]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        with (home / "said").open("w") as said:
            process = subprocess.Popen(
                [self.python, "-m", "vision_jax", *words],
                cwd=self.folder,
                env=self._environment(home),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if command == "train" else said,
            )
            taken = None
            if command == "train":
                taken = _wait_for_step(process) - began
                process.terminate()
            code = process.wait()
        taken = taken or time.perf_counter() - began
        if code:
            raise RuntimeError(f"{self.name}: {command} ended with {code}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return taken, cpu

    def _training(self, workdir: str) -> tuple[str, ...]:
        model = ("--model.stages", "64", "128", "--data.batch-size", "32", "--epochs", "1")
        return ("train", "cnn", "--workdir", workdir, *model)

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
        }
        caches = {"XDG_CACHE_HOME": str(home), "TFDS_DATA_DIR": str(home / "data")}
        return {**kept, **caches, "PYTHONPATH": self.checkout}


def _wait_for_step(process: subprocess.Popen[bytes]) -> float:
    """Return when the progress bar first showed a step that is done."""
    assert process.stderr is not None
    said = ""
    while not _STEP.search(said):
        part = os.read(process.stderr.fileno(), 4096)
        if not part:
            raise RuntimeError(f"training ended before its first step: {said[-500:]}")
        said += part.decode(errors="replace")
    return time.perf_counter()


if __name__ == "__main__":
    main()
