"""`vision-jax serve` from start to Ctrl-C."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from vision_jax.cli import main
from vision_jax.errors import InputError
from vision_jax.serve.server import check_token


def refusal(words, capsys):
    """The one line that a command is refused with."""
    assert main(["serve", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_refused_in_one_line(file, tmp_path, capsys):
    (tmp_path / "none.index").write_bytes(b"none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "--port is" in refusal([file, "--port", port], capsys)
    for words, reason in (
        ([], "0 indexes were given"),
        ([tmp_path / "gone.index", "--port", 0], "does not exist"),
        ([tmp_path / "none.index", "--port", 0], "not an index file"),
        ([file, "--port", 70_000], "--port is 70000"),
        ([file, "--host", "0.0.0.0"], "--token is needed"),
        ([file, "--host", "0.0.0.0", "--token", "short"], "16 or more are needed"),
        ([file, "--host", "not.here.invalid", "--token", "a" * 16], "nothing can listen"),
        ([file, "--port", 0, "--workdir", tmp_path], "holds no run"),
        ([file, "--port", 0, "--cache", file / "x"], "cannot be made"),
    ):
        assert reason in refusal(words, capsys), words


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "myhost", ""])
def test_any_address_but_the_loopback_takes_a_token(host):
    with pytest.raises(InputError, match="token is needed"):
        check_token(host, None)
    check_token(host, "a" * 16)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_the_loopback_takes_none(host):
    check_token(host, None)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_serves_and_ends_cleanly(file, keys, tmp_path, number):
    words = [sys.executable, "-m", "vision_jax", "serve", str(file), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*words, "--cache", str(tmp_path)], **pipes) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0] == "digits: 48 images\n"
        assert lines[2] == "Ctrl-C ends it\n"
        with urllib.request.urlopen(f"{lines[1].strip()}api/health", timeout=20) as answer:
            assert json.load(answer) == {"status": "ok", "images": 48}
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stdout.read() == "ended\n"
        assert process.stderr.read() == ""
