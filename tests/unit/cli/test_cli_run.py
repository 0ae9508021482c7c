from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from flatout.cli import main
from flatout.progress._counters import Failure
from flatout.store import Item, RunFile
from flatout.values import Limits
from flatout.values.secret import Secret
from tests.support.cli_samples import FakeRunner

Client = partial(SimpleNamespace, config=None)

RUN = ["run", "in.jsonl", "-o", "out.jsonl", "-m", "openai/gpt-5-mini"]


async def signal_and_wait(runner: FakeRunner, number: signal.Signals, stops: int) -> None:
    """Send this process a signal, and wait until the runner was asked to stop so many times."""
    os.kill(os.getpid(), number)
    for _ in range(1_000):
        if runner.stops >= stops:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{number.name} did not reach the runner")


def before(*states: str, **more: Any) -> None:
    """A run file, as an earlier process has left it."""

    async def write() -> None:
        run = RunFile.open("out.jsonl.flatout", job={})
        for index, state in enumerate(states):
            item = Item(index=index, fingerprint=bytes(16), state=state, finished_at=1.0, **more)  # type: ignore[arg-type]  # as given
            await run.finish(item)
        await run.close()

    asyncio.run(write())


def test_exit_0_when_every_row_has_an_answer(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell a good run from a bad one."""
    runner.progress.total = runner.progress.answered = 5
    assert main(RUN) == 0
    said = capsys.readouterr()
    assert said.err.startswith("flatout: 5 rows from in.jsonl, to openai/gpt-5-mini\n")
    assert "5 answered" in said.err
    assert "To continue" not in said.err
    assert said.out == ""


def test_exit_1_when_rows_failed(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A nightly job would go on as if all rows had answers."""
    runner.progress.failed = 1
    assert main(RUN) == 1
    assert "--retry-failed" in capsys.readouterr().err


def test_exit_1_when_rows_failed_before(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """Running again would turn failed rows into success."""
    before("answered", "failed", "unsent")
    runner.progress.resumed, runner.progress.failed_before = 2, 1
    assert main(RUN) == 1
    said = capsys.readouterr().err
    assert "2 finished before\n" in said
    assert "(1 of them failed)" in said
    assert "flatout status out.jsonl.flatout" in said


def test_failed_rows_that_are_asked_again_are_not_held_against_the_run(runner: FakeRunner) -> None:
    """--retry-failed would report failure although every row has an answer now."""
    before("answered", "failed")
    assert main([*RUN, "--retry-failed"]) == 0


def test_what_earlier_processes_spent_is_told_too(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was interrupted ten times would seem to cost a tenth."""
    before("answered", "failed", cost=1.5, input_tokens=10, output_tokens=1)
    runner.progress.cost = 0.25
    main(RUN)
    said = capsys.readouterr().err
    assert "cost        $3.25 (this time: $0.2500)\n" in said
    assert "tokens      20 in, 2 out\n" in said


def test_answers_that_were_cut_off_before_are_failures_if_they_are_to_be(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that asks for --fail-truncated would take beginnings of answers for whole ones."""
    before("answered", finish_reason="length")
    assert main(RUN) == 0
    capsys.readouterr()
    assert main([*RUN, "--fail-truncated"]) == 1
    said = capsys.readouterr().err
    assert "cut off     1 answer at the token limit" in said
    assert (
        "1 answer cut off by then, without --fail-truncated, cannot be asked for again: start over with --fresh."
        in said
    )


def test_exit_1_when_rows_have_no_result(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was stopped by a wrong key would look complete."""
    runner.unfinished = 7
    runner.progress.stopped = {"openai/gpt-5-mini": "the key is wrong"}
    assert main(RUN) == 1
    said = capsys.readouterr().err
    assert "the key is wrong" in said
    assert "To continue: flatout run in.jsonl -o out.jsonl -m openai/gpt-5-mini\n" in said


def test_exit_130_and_how_to_go_on_when_interrupted(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A user would not know what was kept, nor how to go on."""
    runner.interrupted = True
    runner.unfinished = 7
    runner.progress.answered = 3
    assert main([*RUN, "--fresh", "--prompt", "Say '{{ x }}'"]) == 130
    said = capsys.readouterr().err
    assert "3 answered, 7 still to do" in said
    last = said.splitlines()[-1]
    assert (
        last
        == """To continue: flatout run in.jsonl -o out.jsonl -m openai/gpt-5-mini --prompt 'Say '"'"'{{ x }}'"'"''"""
    )


def test_going_on_with_standard_input_names_the_run_file(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was answered of a pipe would be lost, and paid for again."""
    runner.interrupted = True
    assert main(["run", "-", "-m", "local"]) == 130
    said = capsys.readouterr().err
    assert "To continue: flatout run - -m local --run-file out.jsonl.flatout  (with the same standard input)" in said


def test_a_run_that_breaks_off_says_what_is_kept(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """After a full disk a user would not know that the answers so far are safe."""
    from flatout.errors import StoreError

    runner.fails_to_run = StoreError("the disk is full")
    assert main(RUN) == 2
    assert capsys.readouterr().err.endswith("\nflatout: the disk is full\n")
    runner.sent = 1
    assert main(RUN) == 1
    _, second, third = capsys.readouterr().err.splitlines()
    assert second == "flatout: the disk is full"
    assert third == "The answers so far are kept in out.jsonl.flatout. To continue: " + " ".join(["flatout", *RUN])


def test_what_stdin_holds_may_be_found_unusable_only_later(
    runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe without usable rows would count as a run that has failed rows, or point to a run file that is gone."""
    from flatout.errors import ConfigError

    runner.fails_to_run = ConfigError("stdin: no rows")
    assert main(["run", "-", "-m", "local"]) == 2
    assert capsys.readouterr().err.endswith("\nflatout: stdin: no rows\n")
    runner.progress.resumed = 3
    assert main(["run", "-", "-m", "local"]) == 2
    capsys.readouterr()
    runner.sent = 3
    assert main(["run", "-", "-m", "local"]) == 1
    assert "--run-file out.jsonl.flatout  (with the same standard input)" in capsys.readouterr().err


def test_what_takes_its_time_is_announced(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that waits for the keyboard, or checks a large file, would look as if it hung."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["run", "-", "-m", "local"]) == 0
    assert "reading prompts from the keyboard; Ctrl-D ends them" in capsys.readouterr().err
    Path("in.jsonl").write_bytes(b"")
    os.truncate("in.jsonl", 30_000_000)
    assert main(RUN) == 0
    assert "checking every row of in.jsonl before the first call" in capsys.readouterr().err


def test_quiet_says_nothing_when_all_is_well(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A cron job would send a mail every night."""
    assert main([*RUN, "-q"]) == 0
    said = capsys.readouterr()
    assert said.err == said.out == ""


def test_quiet_says_what_went_wrong(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A cron job would fail without a word."""
    runner.progress.failed = 2
    runner.progress.failures = {"Refused": Failure(2, "no", 7, "rephrase the prompt")}
    assert main([*RUN, "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("flatout: Done in 0.0 s: 0 answered, 2 failed.\n")
    assert "row 7: no" in said


def test_options_reach_the_runner_and_the_client(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An option would be accepted and do nothing."""
    (tmp_path / "p.txt").write_text("Ask {{ x }}")
    rest = "--system S --format csv --encoding latin-1 --limit 3 --retry-failed --run-file r --neutralise"
    limits = "--rpm 10k --tpm 2M --concurrency 7 --timeout 5 --deadline 50 --retries 0 --budget 1.5"
    server = "--base-url http://127.0.0.1:1/v1 --trust-env --config c.toml --param temperature=0 --param a=b"
    given = f"--prompt @p.txt {rest} {limits} {server}".split()
    assert main([*RUN, *given, "--header", "X-A: b"]) == 0
    options = runner.options
    assert (options.source, options.output, options.model) == ("in.jsonl", "out.jsonl", "openai/gpt-5-mini")
    assert (options.prompt, options.system, options.format) == ("Ask {{ x }}", "S", "csv")
    assert (options.encoding, options.limit, options.run_file) == ("latin-1", 3, "r")
    assert (options.retry_failed, options.fresh, options.neutralise) == (True, False, True)
    assert options.params == {"temperature": 0.0, "extra": {"a": "b"}}
    assert options.command is not None
    assert "X-A: …" in options.command
    made: dict[str, object] = {}
    monkeypatch.setattr("flatout.client.Client", lambda **given: made.update(given) or Client())
    runner.make_client()
    assert made == {
        "model": "openai/gpt-5-mini",
        "base_url": "http://127.0.0.1:1/v1",
        "timeout": 5.0,
        "deadline": 50.0,
        "retries": 0,
        "budget": 1.5,
        "headers": {"X-A": "b"},
        "config": "c.toml",
        "trust_env": True,
        "limits": Limits(rpm=10_000, tpm=2_000_000, concurrency=7),
    }


@pytest.mark.parametrize("option", ["--shared", "--share"])
def test_limits_are_shared_by_the_name_that_the_library_has_too(
    option: str, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows ``Limits(shared=…)`` would have to look the option up; or a script with its first name would end."""
    assert main([*RUN, option, "team"]) == 0
    made: dict[str, object] = {}
    monkeypatch.setattr("flatout.client.Client", lambda **given: made.update(given) or Client())
    runner.make_client()
    assert made["limits"] == Limits(shared="team")


def test_options_of_answers_reach_the_runner_and_the_client(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option would be accepted and do nothing."""
    given = "-m b/2 --samples 3 --choices spam,ham --image {{a}} --image b.png --otlp http://127.0.0.1:1 --metrics 9464"
    bounds = "--reasks 0 --first-byte 2 --between-bytes 0.5"
    assert main([*RUN[:-1], "a/1", *given.split(), *bounds.split()]) == 0
    options = runner.options
    assert (options.model, options.models, options.samples) == (None, ("a/1", "b/2"), 3)
    assert options.params == {"output": Literal["spam", "ham"]}
    assert options.images == ("{{a}}", "b.png")
    assert (options.otlp, options.metrics) == (Secret("http://127.0.0.1:1"), 9464)
    assert ", to a/1 and b/2, 3 times each\n" in capsys.readouterr().err
    made: dict[str, object] = {}
    monkeypatch.setattr("flatout.client.Client", lambda **given: made.update(given) or Client())
    runner.make_client()
    assert made == {
        "model": "a/1",
        "reasks": 0,
        "first_byte": 2.0,
        "between_bytes": 0.5,
        "trust_env": False,
        "limits": None,
    }


def test_warnings_are_told(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """A collector that takes nothing, or a misspelt parameter, would never be heard of."""

    async def warned() -> None:
        logging.getLogger("flatout").warning("telemetry does not reach \x1b[31mit")

    runner.while_running = warned
    assert main([*RUN, "--quiet"]) == 0
    assert capsys.readouterr().err == "flatout: telemetry does not reach \\x1b[31mit\n"


def test_a_flatout_toml_in_force_is_said(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forgotten file in a folder above would choose the model, and nobody know."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    Path("flatout.toml").write_text('model = "openai/gpt-5-mini"\ntimeout = 5\n[limits.openai]\nrpm = 5\n')
    for quiet, told in ((["--quiet"], ""), ([], "model openai/gpt-5-mini, timeout, limits")):
        assert main(["run", "in.jsonl", "-o", "out.jsonl", *quiet]) == 0
        capsys.readouterr()
        runner.make_client()
        said = capsys.readouterr().err
        assert said == (f"flatout: settings from {Path.cwd() / 'flatout.toml'}: {told}\n" if told else "")


def test_what_is_not_given_is_left_to_the_library(runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's defaults would win over flatout.toml."""
    assert main(RUN) == 0
    made: dict[str, object] = {}
    monkeypatch.setattr("flatout.client.Client", lambda **given: made.update(given) or Client())
    runner.make_client()
    assert made == {"model": "openai/gpt-5-mini", "trust_env": False, "limits": None}


def test_a_closed_standard_output_is_found_before_anything_is_paid(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every answer would be bought, and then there is no place for them."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["run", "in.jsonl", "-m", "local"]) == 2
    assert "-o" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_run_and_not_the_process(runner: FakeRunner, number: signal.Signals) -> None:
    """Ctrl-C, `kill` or a closed terminal would throw away what is in flight."""

    async def signalled() -> None:
        await signal_and_wait(runner, number, 1)

    runner.while_running = signalled
    assert main(RUN) == 0
    assert runner.stops == 1


def test_the_third_interrupt_kills(runner: FakeRunner) -> None:
    """A run that hangs while it stops could only be ended with kill -9."""
    handlers: list[object] = []

    async def signalled() -> None:
        for count in (1, 2):
            await signal_and_wait(runner, signal.SIGINT, count)
        handlers.append(signal.getsignal(signal.SIGINT))

    runner.while_running = signalled
    assert main(RUN) == 0
    assert handlers == [signal.default_int_handler]


def test_signals_that_were_ignored_stay_ignored(runner: FakeRunner) -> None:
    """`nohup flatout run …` would end when its terminal is closed."""

    async def signalled() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)

    runner.while_running = signalled
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(RUN) == 0
    finally:
        signal.signal(signal.SIGHUP, old)
    assert runner.stops == 0


def test_a_display_that_fails_does_not_fail_the_run(runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand paid answers would be thrown away for a drawing error."""
    monkeypatch.setenv("FLATOUT_PROGRESS_SECONDS", "0.001")
    monkeypatch.setattr("flatout.progress._display.how_far", lambda _: 1 / 0)

    async def a_while() -> None:
        await asyncio.sleep(0.01)

    runner.while_running = a_while
    assert main(RUN) == 0


def test_the_process_is_set_up_for_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand connections would run out of files, and the collector take more time than the calls."""
    import gc
    import resource

    from flatout.cli import execute

    called: list[object] = []
    monkeypatch.setattr(gc, "freeze", lambda: called.append("freeze"))
    monkeypatch.setattr(gc, "set_threshold", lambda *values: called.append(values))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: called.append(limits))
    execute.tune_collector()
    execute.allow_many_files()
    assert called == ["freeze", (100_000, 20, 100), (4_096, 4_096)]


def test_what_is_all_there_already_says_how_to_ask_anew(runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever wants new answers would get the old ones, and not know why."""
    before("answered")
    runner.progress.resumed = 1
    assert main(RUN) == 0
    assert "To ask all of them again, run the same command with --fresh.\n" in capsys.readouterr().err
