"""Runs that are stopped, killed, repeated, changed and watched: nothing is lost, and nothing is asked twice."""

from __future__ import annotations

import json
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flatout.store import RunReader
from tests.support.command_samples import (
    PATIENCE,
    PLENTY,
    Done,
    Provider,
    check_answers,
    end,
    eventually,
    is_answer,
    provider,
    questions,
    rows_of,
    side_by_side,
    start,
    wait_until_said,
)
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl")
SLOWLY = ("--rpm", "12k", "--concurrency", "60")  # 200 a second


def again(said: str, folder: Path) -> None:
    """Give the command that was printed for going on, and see it succeed."""
    (line,) = [line for line in said.splitlines() if line.startswith("To continue: ")]
    program, *arguments = shlex.split(line.removeprefix("To continue: "))
    assert program == "flatout"
    done = flatout(*arguments, folder=folder)
    assert done.code == 0, done.err


def test_the_same_command_again_sends_nothing(tmp_path: Path) -> None:
    """Everything would be paid for twice."""
    questions(tmp_path, 50)
    with provider() as server:
        command = (*RUN, *server.options(), *PLENTY)
        assert flatout(*command, folder=tmp_path).code == 0
        first = (tmp_path / "out.jsonl").read_bytes()
        (tmp_path / "out.jsonl").unlink()
        done = flatout(*command, folder=tmp_path)
        assert done.code == 0
        assert "Nothing left to do: 50 finished before." in done.err
        assert server.received == 50
    assert (tmp_path / "out.jsonl").read_bytes() == first
    check_answers(tmp_path / "out.jsonl", 50)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a crash rows would be missing, there twice, in another order, or beside another row's answer."""
    count, killed_at = 1_200, (150, 400, 700)
    taken_on = 32  # calls at once, where 25 may be in flight: the answers of some are on their way to the disk
    questions(tmp_path, count)
    with provider(latency=0.05) as server:
        command = (*RUN, *server.options(), "--rpm", "30k", "--concurrency", "25")
        for received in killed_at:
            process = start(*command, folder=tmp_path)
            server.wait_for(received)
            process.kill()
            assert end(process).code == -signal.SIGKILL
            assert not (tmp_path / "out.jsonl").exists()
        facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
        assert facts["state"] == "broken off"
        stats = server.stats()
        assert facts["answered"] >= stats["received"] - taken_on * len(killed_at) > 0
        assert flatout(*command, folder=tmp_path).code == 0
        assert server.received - count <= taken_on * len(killed_at)
    check_answers(tmp_path / "out.jsonl", count)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Provider]]:
    """A folder with a run of 20 rows that is finished, and its provider."""
    folder = tmp_path_factory.mktemp("finished")
    questions(folder, 20)
    with provider() as server:
        assert flatout(*RUN, *server.options(), *PLENTY, folder=folder).code == 0
        yield folder, server


def copied(finished: tuple[Path, Provider], folder: Path) -> Provider:
    shutil.copytree(finished[0], folder, dirs_exist_ok=True)
    return finished[1]


def test_another_job_is_refused_and_the_difference_named(finished: tuple[Path, Provider], tmp_path: Path) -> None:
    """Old answers would be sold as those of a new question, model or parameter."""
    server = copied(finished, tmp_path)
    text = (tmp_path / "in.jsonl").read_text()
    (tmp_path / "changed.jsonl").write_text(text.replace('"question 7"', '"question seven"'))
    (tmp_path / "shorter.jsonl").write_text("".join(text.splitlines(keepends=True)[:12]))
    plain = server.options()
    cases = {
        'changed.jsonl, line 8, column prompt: was "question 7", is now "question seven"': ["changed.jsonl", *plain],
        "has a result for row 13, but shorter.jsonl has only 12 rows now": ["shorter.jsonl", *plain],
        "prompt was not set, is now '{{ prompt }}!'": ["in.jsonl", *plain, "--prompt", "{{ prompt }}!"],
        "system was not set, is now 'Be brief.'": ["in.jsonl", *plain, "--system", "Be brief."],
        "model was 'any', is now 'other'": ["in.jsonl", *server.options("other")],
        "params.temperature was not set, is now 0.5": ["in.jsonl", *plain, "--param", "temperature=0.5"],
    }
    before = server.received

    def refused(case: tuple[int, list[str]]) -> Done:
        run_file = tmp_path / f"{case[0]}.flatout"  # a run file has one writer
        shutil.copy(tmp_path / "out.jsonl.flatout", run_file)
        return flatout("run", *case[1], "--run-file", run_file.name, "-o", "o.jsonl", folder=tmp_path)

    for why, done in zip(cases, side_by_side(refused, enumerate(cases.values())), strict=True):
        (sentence,) = done.err.splitlines()
        assert why in sentence
        assert "use --fresh" in sentence
        assert done.code == 2
    assert server.received == before
    assert not (tmp_path / "o.jsonl").exists()


def test_fresh_starts_over_and_keeps_the_old_run(finished: tuple[Path, Provider], tmp_path: Path) -> None:
    """--fresh would do nothing, or throw paid answers away."""
    server = copied(finished, tmp_path)
    before = server.received
    command = (*RUN, *server.options(), *PLENTY, "--param", "temperature=1", "--fresh")
    assert flatout(*command, folder=tmp_path).code == 0
    assert server.received == before + 20
    assert "20 answered" in flatout("status", "out.jsonl.flatout.1", folder=tmp_path).out
    check_answers(tmp_path / "out.jsonl", 20)


def test_rows_that_were_added_are_new_work(finished: tuple[Path, Provider], tmp_path: Path) -> None:
    """A growing input would be refused, or be paid for from the start."""
    server = copied(finished, tmp_path)
    before = server.received
    questions(tmp_path, 25)
    done = flatout(*RUN, *server.options(), *PLENTY, folder=tmp_path)
    assert done.code == 0
    assert "5 answered, 20 finished before" in done.err
    assert server.received == before + 5
    check_answers(tmp_path / "out.jsonl", 25)


def test_the_first_rows_and_then_the_rest(tmp_path: Path) -> None:
    """A trial of ten rows would be paid for again with the whole, or a later trial would cut the whole off."""
    questions(tmp_path, 30)
    with provider() as server:
        command = (*RUN, *server.options(), *PLENTY)
        assert flatout(*command, "--limit", "10", folder=tmp_path).code == 0
        assert server.received == 10
        check_answers(tmp_path / "out.jsonl", 10)
        assert flatout(*command, folder=tmp_path).code == 0
        assert server.received == 30
        check_answers(tmp_path / "out.jsonl", 30)
        done = flatout(*command, "--limit", "5", folder=tmp_path)
        assert done.code == 0
        assert "5 rows from in.jsonl" in done.err
        assert "5 finished before, 25 beyond the limit finished before" in done.err
        assert "Nothing left to do: 30 finished before." in done.err
        assert server.received == 30
        check_answers(tmp_path / "out.jsonl", 30)
        assert "30 of 30 (100 %)" in flatout("status", "out.jsonl", folder=tmp_path).out


def test_failed_rows_are_asked_again_only_when_told(tmp_path: Path) -> None:
    """Hopeless rows would be paid for in every run; or there would be no way to try them again."""
    long = "long " * 2_000
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in ("a", long, "b")))
    with provider(context_tokens=1_000) as small:
        assert flatout(*RUN, *small.options(), *PLENTY, folder=tmp_path).code == 1
    with provider() as large:
        done = flatout(*RUN, *large.options(), *PLENTY, folder=tmp_path)
        assert done.code == 1
        assert "3 finished before (1 of them failed)" in done.err
        assert large.received == 0
        assert flatout(*RUN, *large.options(), *PLENTY, "--retry-failed", folder=tmp_path).code == 0
        assert large.received == 1
    assert all(is_answer(row["answer"], row["prompt"]) for row in rows_of(tmp_path / "out.jsonl"))


def test_one_interrupt_finishes_what_is_in_flight(tmp_path: Path) -> None:
    """Ctrl-C would throw away answers that are being paid for, or leave the user without a way to go on."""
    side_by_side(lambda number: check_an_interrupt(number, tmp_path / number.name), [signal.SIGINT, signal.SIGTERM])


def check_an_interrupt(number: signal.Signals, folder: Path) -> None:
    folder.mkdir()
    count = 400
    questions(folder, count)
    with provider(latency=0.3) as server:
        process = start(*RUN, *server.options(), *SLOWLY, folder=folder)
        server.wait_for(60)
        process.send_signal(number)
        done = end(process)
        stats = server.stats()
        assert done.code == 130
        assert 60 <= stats["received"] < count
        assert "Interrupted after" in done.err
        assert f"{stats['received']} answered, {count - stats['received']} still to do" in done.err
        assert stats["answered"] == stats["received"]
        assert not (folder / "out.jsonl").exists()
        assert ": interrupted\n" in flatout("status", "out.jsonl", folder=folder).out
        again(done.err, folder)
        assert server.received == count
    check_answers(folder / "out.jsonl", count)


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """A run whose provider hangs could not be ended but with kill -9."""
    questions(tmp_path, 20)
    with provider(latency=3_600.0) as server:
        process = start(*RUN, *server.options(), *PLENTY, folder=tmp_path, env={"FLATOUT_PROGRESS_SECONDS": "0.1"})
        server.wait_for(20)
        process.send_signal(signal.SIGINT)
        wait_until_said(process, "Ctrl-C again drops them")  # two signals that come together are one
        process.send_signal(signal.SIGINT)
        done = end(process)
    assert done.code == 130
    assert "0 answered, 20 still to do" in done.err
    with provider() as quick:
        assert flatout(*RUN, *quick.options(), *PLENTY, folder=tmp_path).code == 0
    check_answers(tmp_path / "out.jsonl", 20)


def test_a_reader_that_has_seen_enough_is_met_in_silence(tmp_path: Path) -> None:
    """`flatout run … | head -1` would end in a traceback, or the answers be lost."""
    questions(tmp_path, 400)
    with provider(output_tokens=100) as server:
        command = ("run", "in.jsonl", *server.options(), *PLENTY)
        env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "FLATOUT_PROGRESS_SECONDS": "1000"}
        process = start(*command, folder=tmp_path, env=env)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == "q0"
        process.stdout.close()
        process.stdout = None
        done = end(process)
        assert done.code == 141
        assert [line for line in done.err.splitlines() if not line.startswith("flatout: 400 rows")] == []
        assert flatout(*command, folder=tmp_path, env=env).code == 0
        assert server.received == 400


def test_without_an_output_each_prompt_is_a_job_of_its_own(tmp_path: Path) -> None:
    """Trying another prompt on the same file would be refused as a changed job; or leave a file beside the input."""
    questions(tmp_path, 3)
    with provider() as server:
        env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = ("run", "in.jsonl", *server.options(), *PLENTY, "--prompt")
        for times, prompt in enumerate(("Say {{ prompt }}", "Sing {{ prompt }}"), start=1):
            done = flatout(*command, prompt, folder=tmp_path, env=env)
            assert done.code == 0
            rows = [json.loads(line) for line in done.out.splitlines()]
            assert all(is_answer(row["answer"], prompt.replace("{{ prompt }}", row["prompt"])) for row in rows)
            assert server.received == 3 * times
        again = flatout(*command, "Say {{ prompt }}", folder=tmp_path, env=env)  # the first, from its own run file
        assert (again.code, len(again.out.splitlines()), server.received) == (0, 3, 6)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "in.jsonl"]


def test_starting_over_says_where_the_run_before_is(tmp_path: Path) -> None:
    """Paid answers would seem to be gone."""
    questions(tmp_path, 3)
    with provider() as server:
        command = (*RUN, *server.options(), *PLENTY)
        assert "kept as" not in flatout(*command, "--fresh", folder=tmp_path).err
        assert (
            "flatout: the previous run is kept as out.jsonl.flatout.1\n"
            in flatout(*command, "--fresh", folder=tmp_path).err
        )


def test_one_run_file_has_one_writer(tmp_path: Path) -> None:
    """Two commands started by mistake would pay for everything twice."""
    questions(tmp_path, 5)
    with provider(latency=3_600.0) as server:
        command = (*RUN, *server.options(), *PLENTY)
        first = start(*command, folder=tmp_path)
        server.wait_for(5)
        second = flatout(*command, folder=tmp_path)
        (sentence,) = second.err.splitlines()
        assert f"out.jsonl.flatout is being written by process {first.pid}" in sentence
        assert second.code == 2
        assert server.received == 5
        first.kill()
        end(first)


def test_a_run_can_be_looked_at_while_it_goes_on_and_after(tmp_path: Path) -> None:
    """A user would have to wait for the end to see whether the answers are any good."""
    count = 1_000
    questions(tmp_path, count)
    with provider(latency=0.1) as server:
        command = (*RUN, *server.options())
        slowly = ("--rpm", "600")  # after 600 rows it waits for a minute: it goes on while it is looked at
        process = start(*command, *slowly, folder=tmp_path, env={"FLATOUT_PROGRESS_SECONDS": "0.5"})
        wait_until_said(process, f"/{count:,} (")
        eventually(lambda: finished_rows(tmp_path / "out.jsonl.flatout") > 50)
        status, exported = side_by_side(
            lambda arguments: flatout(*arguments, folder=tmp_path),
            [("status", "out.jsonl"), ("export", "out.jsonl", "-o", "so-far.jsonl")],
        )
        assert status.code == exported.code == 0
        assert f"running (process {process.pid}" in status.out
        assert f" of {count:,} (" in status.out
        assert "calls/s" in status.out
        assert "to continue" not in status.out
        rows = rows_of(tmp_path / "so-far.jsonl")
        assert exported.err == f"flatout: {len(rows)} rows written to so-far.jsonl\n"
        assert len(rows) > 50
        assert all(is_answer(row["answer"], row["prompt"]) for row in rows)
        process.send_signal(signal.SIGINT)
        end(process)
        assert flatout(*command, *PLENTY, folder=tmp_path).code == 0  # as fast as it may: the rate is not the job
        assert server.received == count
    said = flatout("status", "out.jsonl", folder=tmp_path).out
    assert f"{count:,} of {count:,} (100 %) finished: {count:,} answered" in said
    assert flatout("export", "out.jsonl", "-o", "whole.jsonl", folder=tmp_path).code == 0
    assert (tmp_path / "whole.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


def finished_rows(run_file: Path) -> int:
    with RunReader.open(run_file) as reader:
        return reader.counts().finished


def is_answered(server: Provider, count: int) -> bool:
    return bool(server.stats()["answered"] == count)


def test_a_slow_pipe_holds_nothing_up(tmp_path: Path) -> None:
    """Answers would come, and Ctrl-C be heard, only when the next row is written."""
    with provider() as server:
        command = ("run", "-", *server.options(), *PLENTY)
        process = start(*command, folder=tmp_path, stdin=subprocess.PIPE, env={"TMPDIR": str(tmp_path)})
        assert process.stdin is not None
        for number in range(3):
            process.stdin.write(json.dumps({"id": f"q{number}", "prompt": f"question {number}"}).encode() + b"\n")
            process.stdin.flush()
            eventually(partial(is_answered, server, number + 1))
        process.send_signal(signal.SIGINT)
        out, err = process.stdout, process.stderr
        assert process.wait(PATIENCE) == 130
        assert out is not None
        assert err is not None
        assert len(out.read().splitlines()) == 3
        (line,) = [line for line in err.read().decode().splitlines() if line.startswith("To continue: ")]
        process.stdin.close()
        out.close()
        err.close()
        words, with_what = line.removeprefix("To continue: ").split("  ")
        assert with_what == "(with the same standard input)"
        content = questions(tmp_path, 5).read_bytes()
        done = flatout(*shlex.split(words)[1:], folder=tmp_path, stdin=content)
        assert done.code == 0
        assert server.received == 5
        (tmp_path / "out.jsonl").write_text(done.out)
        check_answers(tmp_path / "out.jsonl", 5)


def test_another_pipe_is_refused_like_another_file(tmp_path: Path) -> None:
    """Answers to yesterday's standard input would be written beside today's rows."""
    content = questions(tmp_path, 5).read_bytes()
    with provider() as server:
        command = ("run", "-", "-o", "out.jsonl", *server.options(), *PLENTY)
        assert flatout(*command, folder=tmp_path, stdin=content).code == 0
        assert "5 of 5 (100 %)" in flatout("status", "out.jsonl", folder=tmp_path).out
        changed = flatout(*command, folder=tmp_path, stdin=content.replace(b"question 3", b"question three"))
        assert 'stdin, line 4, column prompt: was "question 3", is now "question three"' in changed.err
        shorter = flatout(*command, folder=tmp_path, stdin=b"".join(content.splitlines(keepends=True)[:2]))
        assert "has a result for row 3, but stdin has only 2 rows now" in shorter.err
        assert server.received == 5
        check_answers(tmp_path / "out.jsonl", 5)


def test_a_bad_row_in_the_middle_of_a_pipe_loses_nothing(tmp_path: Path) -> None:
    """What was answered before it would be gone, or no command could go on with it."""
    content = questions(tmp_path, 5).read_bytes()
    lines = content.splitlines(keepends=True)
    with provider() as server:
        command = ("run", "-", *server.options(), *PLENTY)
        done = flatout(
            *command,
            folder=tmp_path,
            stdin=b"".join([*lines[:3], b"nonsense\n", *lines[3:]]),
            env={"TMPDIR": str(tmp_path)},
        )
        assert done.code == 1
        assert "flatout: stdin, line 4: not JSON" in done.err
        words = done.err.splitlines()[-1].partition("To continue: ")[2].partition("  ")[0]
        assert flatout(*shlex.split(words)[1:], folder=tmp_path, stdin=content).code == 0
        assert server.received == 5


def test_the_run_of_a_pipe_is_kept_if_it_asked_something(tmp_path: Path) -> None:
    """What was paid for would be gone with a broken pipe behind it; or each mistyped command leave a file."""
    options: dict[str, Any] = {
        "folder": tmp_path,
        "stdin": b'"a"\n',
        "env": {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    }
    with provider() as server:
        command = ("run", "-", *server.options(), *PLENTY)
        assert flatout(*command, **options).code == 0
        assert "1 of 1 (100 %) finished" in flatout("status", "-", **options).out
        assert "--run-file" in json.loads(flatout("status", "-", "--json", **options).out)["command"]
        assert flatout(*command, "--budget", "1", **options).code == 2
        full = flatout(*command, prepare=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_000, 1_000)), **options)
        assert full.code == 2
        assert "stdin-" in full.err
        (kept,) = (tmp_path / "cache" / "flatout" / "runs").iterdir()
        assert kept.name.startswith("stdin-")
