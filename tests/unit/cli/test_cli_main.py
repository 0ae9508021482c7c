from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

import flatout
from flatout import errors
from flatout.cli import app, main, terminal
from flatout.progress._counters import Failure
from tests.support.cli_samples import FakeRunner

RUN = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "openai/gpt-5-mini"]
OWN = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, flatout.FlatoutError)),
    key=lambda kind: kind.__name__,
)
FOREIGN = [
    RuntimeError,
    KeyError,
    OSError,
    MemoryError,
    RecursionError,
    UnicodeError,
    AssertionError,
    EOFError,
    ExceptionGroup,
]


@pytest.mark.parametrize("kind", OWN)
def test_every_error_of_flatout_is_one_sentence_and_exit_2(
    kind: type[Exception], runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong option would end in a traceback, or in the exit code of success."""
    runner.fails_to_prepare = kind("what is\nwrong \x1b[31m")
    assert main(RUN) == 2
    said = capsys.readouterr()
    todo = f"; {terminal._START_OVER}" if kind is errors.RunMismatch else ""
    assert said.err == f"flatout: what is wrong \\x1b[31m{todo}\n"
    assert said.out == ""


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("at", ["fails_to_prepare", "fails_to_run"])
def test_no_defect_shows_a_traceback(
    kind: type[Exception], at: str, runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect would bury the terminal in a traceback, with what was read and asked in it."""
    message = "odd: Bearer sk-abcdefgh12345678"
    setattr(runner, at, kind(message, [ValueError(message)]) if kind is ExceptionGroup else kind(message))
    assert main(RUN) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "sk-abc" not in said
    sentence = said.splitlines()[-1]
    assert sentence.startswith(f"flatout: unexpected {kind.__name__}: ")
    assert "FLATOUT_DEBUG=1" in sentence


def test_a_traceback_is_shown_when_it_is_asked_for(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect could not be found."""
    monkeypatch.setenv("FLATOUT_DEBUG", "1")
    runner.fails_to_prepare = RuntimeError("odd")
    assert main(RUN) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupts_before_the_run_are_exit_130(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while a large input is checked would end in a traceback."""
    runner.fails_to_prepare = KeyboardInterrupt()
    assert main(RUN) == 130
    assert capsys.readouterr().err.endswith("flatout: interrupted\n")


def test_a_cancelled_run_is_no_traceback(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A cancellation that gets out of the event loop is no Exception, and would pass every boundary."""
    runner.fails_to_run = asyncio.CancelledError()
    assert main(RUN) == 1
    assert "cancelled" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_met_in_silence() -> None:
    """`flatout run … | head` would end in complaints about a broken pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    program = "import sys; from flatout.cli import main; sys.exit(main(['--version']))"
    done = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "x", "--rmp", "3"], "no such option: --rmp"),
        (
            ["run", "x", "--max-tokens", "5"],
            "no such option: --max-tokens; write --param max_tokens=…; see ",
        ),
        (["run", "x", "--temp", "0"], "no such option: --temp; write --param temperature=…"),
        (
            ["plan", "x", "--max-retries", "3"],
            "no such option: --max-retries; write --retries; see ",
        ),
        (["run", "x", "--requests-per-minute=5"], "write --rpm; see"),
        (["run", "x", "--max-workers", "5"], "write --concurrency; see"),
        (["run", "x", "--store", "y"], "--run-file names the run file"),
        (["run", "x", "--api-key", "k"], "keys come from the environment, such as OPENAI_API_KEY"),
        (["run", "x", "--response-model", "k"], "with --schema or --choices"),
        (["run", "x", "--ouput", "y"], "no such option: --ouput; --output names the file;"),
        (["report", "x", "--ouput", "y"], "no such option: --ouput; write --output; see"),
        (["simulate", "--api-key", "k"], "no such option: --api-key (Possible options"),
        (["status", "x", "--max-tokens", "5"], "no such option: --max-tokens"),
        (["run", "x", "--retries", "many"], "--retries"),
        (["run", "x", "--retries", "-1"], "--retries"),
        (["run", "x", "--limit", "0"], "--limit"),
        (["run", "x", "-o"], "option '-o' requires an argument; see flatout run --help"),
        (["run", "x", "--budget", "five"], "--budget is a number above 0, such as 5, 20/day, 100/month or 20/day:team"),
        (["run", "x", "--budget", "5/week"], "--budget is a number above 0, such as 5, 20/day, 100/month"),
        (["run", "x", "--budget", "5/day:"], "--budget is a number above 0, such as 5, 20/day, 100/month"),
        (["local", "serve", "--port"], "option '--port' requires an argument; see flatout local serve --help"),
        (["run", "x", "--rpm", "fast"], "--rpm is a number above 0"),
        (["run", "x", "--tpm", "0"], "--tpm is a number above 0"),
        (["run", "x", "--header", "nonsense"], "--header takes"),
        (["run", "x", "--param", "nonsense"], "--param takes"),
        (["run", "x", "--prompt", "@/nowhere"], "--prompt @/nowhere"),
        (["frobnicate"], "no such command 'frobnicate'"),
        (["export", "x", "-o", "y", "--only", "some"], "--only"),
        (["status", "nowhere"], "there is no run file nowhere"),
        (["local", "nonsense"], "nonsense"),
        (["simulate", "--error-500", "2"], "--error-500 is a share"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(
    arguments: list[str], said: str, runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error would print a page, or start a run."""
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("flatout: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "needs", "example"),
    [
        (["run"], "run needs SOURCE. Prompts: ", "flatout run prompts.jsonl -o "),
        (["run", "-o", "x"], "run needs SOURCE. Prompts: ", "flatout run prompts.jsonl -o "),
        (["export", "x"], "export needs -o FILE. Where to: ", "flatout export answers.jsonl -o "),
        (["status"], "status needs RUN. The output ", "flatout status answers.jsonl"),
    ],
)
def test_what_is_missing_is_said_with_one_example(
    arguments: list[str], needs: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody new would get a page of options, in which the one that is missing has to be looked for."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[0].startswith(f"flatout: {needs}")
    assert lines[1] == "For example:"
    assert lines[2].startswith(f"  {example}")
    assert lines[3:] == [f"See all that it takes with: flatout {arguments[0]} --help"]
    assert said.out == ""


def test_nothing_given_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody new would see an error instead of what to do."""
    assert main([]) == 2
    said = capsys.readouterr()
    assert "Start here" in said.out
    assert said.err == ""


def test_the_module_is_the_command() -> None:
    """`python -m flatout` would not work where the script is not on the path."""
    done = subprocess.run([sys.executable, "-m", "flatout", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("flatout ")


def test_a_closed_standard_error_does_not_send_messages_to_the_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runner: FakeRunner
) -> None:
    """Under a service without stderr, messages would get in between the answers."""
    monkeypatch.setattr(sys, "stderr", None)
    runner.progress.failures = {"Refused": Failure(1, "x", 1, "y")}
    assert main(RUN) == 0
    assert main(["run"]) == 2
    assert "flatout:" not in capsys.readouterr().out.replace("$ flatout", "")


@pytest.mark.parametrize(("asked", "read"), [("run", {"run"}), ("cache", {"cache"}), ("--help", ...), ("rnu", ...)])
def test_only_the_command_that_is_meant_is_read(asked: str, read: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start would read the options of all commands, and take a sixth longer; or help would leave commands out."""
    of, meant = app.command, []

    def command(name: str | None = None) -> Any:
        meant.append(of(name))
        return meant[-1]

    monkeypatch.setattr(app, "command", command)
    main([asked, "--help"])
    assert meant[0].commands.keys() == (of().commands.keys() if read is ... else read)
