"""Whatever the command prints can be seen, whoever wrote it."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import flatout.cli
from flatout import ConfigError
from flatout.cli import main
from flatout.cli import trace as trace_command
from flatout.cli.progress import WAYS
from flatout.cli.terminal import fitted, say
from flatout.progress._counters import Failure, Progress
from flatout.progress._display import LiveLine, PlainLines
from flatout.store import Item, RunFile
from tests.support.cli_samples import FakeRunner

HOSTILE = "a\x1b[2Jb\x9b31mc\u202ed\u200be\x07f\u2066g\u2069"
"""An escape sequence, one of eight bits, a right-to-left override, a letter of no width, the bell, an isolate."""

UNSEEN = "\x1b\x9b\u202e\u200b\x07\u2066\u2069"


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def said(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run file in which everything that can be a text is hostile."""
    monkeypatch.chdir(tmp_path)
    name = f"{HOSTILE}.flatout"

    async def write() -> None:
        async with RunFile.open(name, job={HOSTILE: HOSTILE}, command=HOSTILE, group_seconds=0.0) as file:
            file.set_total(4)
            await file.note_attempt(0, 1, HOSTILE, 0.5, None)
            await file.finish(item(0, answer=HOSTILE))
            await file.finish(item(1, state="failed", error=HOSTILE, error_message=HOSTILE))
            await file.finish(item(2, state="failed", error="RateLimited", error_message=HOSTILE))

    asyncio.run(write())
    return name


def item(index: int, **values: Any) -> Item:
    own = {"id": HOSTILE, "fingerprint": bytes(16), "prompt": json.dumps({"prompt": HOSTILE}).encode(), **values}
    return Item(**{"index": index, "state": "answered", "attempts": 1, "seconds": 1.0, "finished_at": 1.0, **own})


def assert_harmless(said: str) -> None:
    assert said
    assert not set(UNSEEN) & set(said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["trace"],
        ["trace", "--failed"],
        ["trace", "--failed", "--json"],
        ["trace", "1"],
        ["trace", "2"],
        ["trace", "3", "--json"],
    ],
)
@pytest.mark.parametrize("live", [True, False])
def test_a_run_file_of_others_cannot_move_the_cursor(
    arguments: list[str],
    live: bool,
    run: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To look into a run file from elsewhere would be to let its author write on the terminal."""
    monkeypatch.setattr(trace_command, "is_live", lambda _: live)
    command, *rest = arguments
    assert main([command, run, *rest]) == 0
    assert_harmless(capsys.readouterr().out)


def test_export_to_a_terminal_is_harmless_and_to_a_pipe_exact(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer would be carried out by the terminal; or a program that reads the answers would get others."""
    for name in ("csv", "jsonl"):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        assert main(["export", run, "-o", "-", "--format", name]) == 0
        assert_harmless(terminal.said())
    pipe = Terminal()
    monkeypatch.setattr(pipe, "isatty", lambda: False)
    monkeypatch.setattr(sys, "stdout", pipe)
    assert main(["export", run, "-o", "-", "--format", "csv"]) == 0
    assert HOSTILE in pipe.said()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", HOSTILE, "-o", "out.jsonl", "-m", "m"],
        ["run", "in.jsonl", "-o", HOSTILE, "-m", "m"],
        ["run", "in.jsonl", "-o", "out.jsonl", "-m", HOSTILE],
        ["run", "in.jsonl", "-o", "out.jsonl", "-m", HOSTILE, "-m", "m", "--samples", "2"],
    ],
)
@pytest.mark.parametrize("fails", [True, False])
def test_names_in_the_command_are_shown_as_text(
    arguments: list[str], fails: bool, runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of a strange name in a folder of others would write on the terminal of who runs it by ``*.jsonl``."""
    Path("in.jsonl").touch()
    runner.run_file = Path(f"{HOSTILE}.flatout")
    runner.fails_to_run = ConfigError(HOSTILE) if fails else None
    runner.unfinished = 1
    runner.progress.failed = 1
    runner.progress.failures[HOSTILE] = Failure(1, HOSTILE, 1, "")
    runner.progress.stopped[HOSTILE] = HOSTILE
    main(arguments)
    assert_harmless(capsys.readouterr().err)


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("kind", [ConfigError, RuntimeError, OSError])
def test_errors_are_shown_as_text(
    kind: type[Exception],
    debug: str,
    runner: FakeRunner,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A provider's message would write on the terminal, most of all when somebody looks for a defect."""
    monkeypatch.setenv("FLATOUT_DEBUG", debug)
    runner.fails_to_prepare = kind(HOSTILE)
    main(["run", "in.jsonl", "-o", "out.jsonl", "-m", "m"])
    main(["run", "in.jsonl", HOSTILE])
    main([HOSTILE])
    main(["status", HOSTILE])
    assert_harmless(capsys.readouterr().err)


@pytest.mark.parametrize("display", [partial(LiveLine, WAYS), partial(PlainLines, say, WAYS)])
def test_the_live_line_is_harmless(display: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's reason for a pause would write on the terminal while the run goes on."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(answered=1, paused={HOSTILE: HOSTILE}, stopped={HOSTILE: HOSTILE}, holds=HOSTILE)
    shown = display()
    shown.show(progress, HOSTILE)
    shown.close()
    said = terminal.said()
    assert "\\u202e" in said
    assert not set("\x9b\u202e\u200b\x07\u2066\u2069") & set(said)
    assert "\x1b[2Jb" not in said


def test_nothing_in_the_command_writes_past_the_one_door() -> None:
    """The next line that somebody prints would show what others wrote as it is."""
    for path in Path(flatout.cli.__file__).parent.glob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                writes = called in ("print", "typer.echo", "typer.secho", "click.echo", "rich.print")
                assert not writes, f"{path.name}:{node.lineno} writes with {called}"
                assert not called.endswith((".stdout.write", ".stderr.write", ".buffer.write")), path.name


def test_lines_are_broken_between_words() -> None:
    """On a terminal of 80 columns words would be cut in two, and what goes on would stand below the labels."""
    advice = (
        "  no answer   2 × AttemptTimeout\n                → raise timeout= (--timeout), or ask for shorter answers"
    )
    assert fitted(advice, 60).splitlines() == [
        "  no answer   2 × AttemptTimeout",
        "                → raise timeout= (--timeout), or ask for",
        "                  shorter answers",
    ]
    labelled = "  waited for  finding the limit on requests 89 %, the provider 10 %"
    assert fitted(labelled, 50).splitlines() == [
        "  waited for  finding the limit on requests 89 %,",
        "              the provider 10 %",
    ]
    assert fitted(f"  to continue  {'x' * 60}", 60) == f"  to continue\n  {'x' * 60}"
    assert fitted("one two\nthree", 7) == "one two\nthree"


def test_a_command_is_never_broken() -> None:
    """Copied from the terminal, its first half would run, and ask something else."""
    command = "flatout run 'my mails. 2.csv' --prompt 'Spam; or ham? {{ text }}' -m openai/gpt-5-mini -o out.csv"
    assert fitted(f"To continue: {command}", 60) == f"To continue:\n  {command}"
    said = f"flatout: it sends a key. If you mean it: {command}; or give the file by hand, with --config"
    assert fitted(said, 60).splitlines() == [
        "flatout: it sends a key. If you mean it:",
        f"  {command};",
        "  or give the file by hand, with --config",
    ]
