from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flatout.cli import main
from flatout.cli.local import Download
from flatout.errors import ConfigError


@pytest.fixture(autouse=True)
def nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatout.local.model_path", lambda: None)


def test_pull_shows_where_the_model_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A user would look at nothing for a minute, and not know what to do then."""

    def pull(progress: Callable[[str, int, int], None]) -> Path:
        for done in (0, 40_000_000, 93_000_000):
            progress("download", done, 93_000_000)
        progress("unpack", 1, 98_000_000)
        return Path("/cache/model.gguf")

    monkeypatch.setattr("flatout.local.pull", pull)
    assert main(["local", "pull"]) == 0
    said = capsys.readouterr()
    assert said.out == "/cache/model.gguf\n"
    assert said.err.splitlines() == [
        "flatout: fetching the embedded model (93 MB) …",
        "flatout: unpacking and verifying it (98 MB) …",
        "Use it with: flatout run prompts.jsonl -m local",
    ]


def test_a_model_that_is_there_is_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user would believe that 93 MB were fetched each time."""
    monkeypatch.setattr("flatout.local.model_path", lambda: Path("m"))
    monkeypatch.setattr("flatout.local.pull", lambda _: Path("m"))
    assert main(["local", "pull"]) == 0
    assert "installed already" in capsys.readouterr().err


def test_a_pull_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a network a user would get a traceback of pip's."""

    def pull(_: object) -> Path:
        raise ConfigError("pip could not fetch the model: no network")

    monkeypatch.setattr("flatout.local.pull", pull)
    assert main(["local", "pull"]) == 2
    assert capsys.readouterr().err == "flatout: pip could not fetch the model: no network\n"


def test_the_download_is_written_over_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal would fill up with percentages."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    download = Download()
    for done in range(100):
        download.show("download", done * 1_000_000, 99_000_000)
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]  # a Terminal
    assert said.startswith("\r\x1b[Kflatout: fetching the embedded model: 0 of 99 MB")
    assert "\n" not in said
    assert said.count("\r") < 10


def test_serve_says_how_to_use_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A user would not know the address, nor the model's name."""
    given: dict[str, object] = {}

    def serve(port: int, slots: int, announce: Callable[[str], None]) -> None:
        given.update(port=port, slots=slots)
        announce("http://127.0.0.1:9/v1")

    monkeypatch.setattr("flatout.local.serve_forever", serve)
    assert main(["local", "serve", "--port", "9", "--slots", "3"]) == 0
    assert given == {"port": 9, "slots": 3}
    assert "-m smollm2-135m-instruct --base-url http://127.0.0.1:9/v1" in capsys.readouterr().err
