"""What goes wrong at the provider, on the way or on the disk is said once; what can go on, goes on."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flatout.testing import Faults
from tests.support.command_samples import (
    PLENTY,
    check_answers,
    is_answer,
    provider,
    questions,
    rows_of,
)
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl")
Fill = Callable[[], object]
RIGHT, WRONG = {"FLATOUT_API_KEY": "right"}, {"FLATOUT_API_KEY": "wrong"}


@pytest.mark.parametrize("limits", [("--concurrency", "8"), ()], ids=["known concurrency", "unknown limits"])
def test_a_wrong_key_stops_at_once(limits: tuple[str, ...], tmp_path: Path) -> None:
    """A mistyped key would be met with hundreds of refusals, which get accounts blocked; or the rows be lost."""
    questions(tmp_path, 500)
    with provider(key="right") as server:
        command = (*RUN, *server.options(), *limits)
        done = flatout(*command, folder=tmp_path, env=WRONG)
        assert done.code == 1
        assert server.received <= (10 if limits else 64)
        assert "Stopped after" in done.err
        assert "answered 401: the API key is not right" in done.err
        assert "500 held back" in done.err
        assert done.err.splitlines()[-1].startswith("To continue: flatout run in.jsonl -o out.jsonl -m any")
        assert "--retry-failed" not in done.err
        status = flatout("status", "out.jsonl", folder=tmp_path)
        assert "interrupted" in status.out
        assert "500 held back, to be sent when the run continues" in status.out
        assert [row["answer"] for row in rows_of(tmp_path / "out.jsonl")] == [None] * 500
        if limits:
            assert flatout(*command, folder=tmp_path, env=RIGHT).code == 0
            assert server.stats()["answered"] == 500
            check_answers(tmp_path / "out.jsonl", 500)


def test_an_unknown_model_stops_at_once(tmp_path: Path) -> None:
    """A mistyped model would cost one request for every row."""
    questions(tmp_path, 500)
    with provider(models=("good",)) as server:
        done = flatout(*RUN, *server.options("god"), "--concurrency", "8", folder=tmp_path, env=RIGHT)
        assert done.code == 1
        assert server.received <= 10
        assert "answered 404: The model `god` does not exist" in done.err
        assert "check the model's name" in done.err


def test_a_host_that_is_not_there_is_told_soon(tmp_path: Path) -> None:
    """A user would wait for minutes to learn that a server is not running."""
    questions(tmp_path, 500)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        done = flatout(*RUN, "-m", "any", "--base-url", url, *PLENTY, "--give-up", "3", folder=tmp_path)
    assert done.code == 1
    assert "no connection to 127.0.0.1" in done.err
    assert "500 held back" in done.err
    assert done.err.count("no connection to") <= 2


def test_a_prompt_that_is_too_long_fails_alone(tmp_path: Path) -> None:
    """One long document would stop a run, or be retried for ever."""
    lengths = [10, 3_000, 20, 3_000, 30]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(f"{n} " + "word " * n) + "\n" for n in lengths))
    with provider(context_tokens=1_000) as server:
        done = flatout(*RUN, *server.options(), *PLENTY, folder=tmp_path)
        assert server.received == 5
    rows = rows_of(tmp_path / "out.jsonl")
    assert [is_answer(row["answer"], row["prompt"]) for row in rows] == [True, False, True, False, True]
    assert all(row["error"].startswith("ContextTooLong: ") for row in rows if row["answer"] is None)
    assert done.code == 1
    assert "3 answered, 2 failed" in done.err
    assert "2 × ContextTooLong" in done.err
    assert "--retry-failed" in done.err


def test_a_prompt_above_the_limit_of_a_minute_fails_alone(tmp_path: Path) -> None:
    """A prompt that can never be admitted would hold up all that come behind it."""
    lengths = [10, 30_000, 20]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(f"{n} " + "word " * n) + "\n" for n in lengths))
    with provider() as server:
        done = flatout(*RUN, *server.options(), "--tpm", "20k", "--param", "max_tokens=50", folder=tmp_path)
        assert server.received == 2
    one, two, three = rows_of(tmp_path / "out.jsonl")
    assert is_answer(one["answer"], one["prompt"])
    assert is_answer(three["answer"], three["prompt"])
    assert two["error"].startswith("InvalidRequest: not sent: it needs about")
    assert done.code == 1


def test_rows_that_the_provider_never_accepts_fail_with_its_reason(tmp_path: Path) -> None:
    """A user would not learn which rows to mend, or be told of a content filter that there is not."""
    questions(tmp_path, 60)
    with provider(faults=Faults(invalid=0.2)) as server:
        done = flatout(*RUN, *server.options(), *PLENTY, folder=tmp_path)
        assert server.received == 60
    failed = [row["error"] for row in rows_of(tmp_path / "out.jsonl") if row["answer"] is None]
    assert failed
    assert all(error.startswith("InvalidRequest: ") for error in failed)
    assert f"{len(failed)} × InvalidRequest" in done.err
    assert done.code == 1


def test_a_budget_ends_a_run_that_a_larger_one_goes_on_with(tmp_path: Path) -> None:
    """A budget would be overrun, or the rows that it held back be lost."""
    questions(tmp_path, 40)
    with provider() as server:
        name = f"{server.url.removeprefix('http://').removesuffix('/v1')}/any"
        (tmp_path / "flatout.toml").write_text(f'[prices."{name}"]\ninput = 1000.0\noutput = 1000.0\n')
        command = (*RUN, *server.options(), *PLENTY, "--param", "max_tokens=20")
        done = flatout(*command, "--budget", "0.5", folder=tmp_path)
        spent = server.stats()
        assert done.code == 1
        assert 0 < (spent["prompt_tokens"] + spent["output_tokens"]) * 0.001 <= 0.5
        assert "held back by the budget" in done.err
        assert "raise the budget" in done.err
        assert "held back" in done.err
        flatout(*command, "--budget", "0.5", folder=tmp_path)  # goes on with what is left, and no more
        spent = server.stats()
        assert (spent["prompt_tokens"] + spent["output_tokens"]) * 0.001 <= 0.5
        assert flatout(*command, "--budget", "5", folder=tmp_path).code == 0
        assert server.stats()["received"] == server.stats()["answered"] == 40
    check_answers(tmp_path / "out.jsonl", 40)
    assert all(row["cost"] > 0 for row in rows_of(tmp_path / "out.jsonl"))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a file system of eight megabytes over a folder, where this process may."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this process may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_that_a_full_disk_loses_nothing(folder: Path, why: str, fill: Fill, make_room: Fill, **options: Any) -> None:
    questions(folder, 1_000)
    with provider() as server:
        # Few in flight, so that the first answers are stored before all thousand attempts fill the little room.
        command = (*RUN, *server.options(), *PLENTY, "--concurrency", "32")
        fill()
        done = flatout(*command, folder=folder, **options)
        assert done.code == 1
        told = next(line for line in done.err.splitlines() if "answers are safe in out.jsonl.flatout" in line)
        assert why in told
        assert done.err.splitlines()[-1].endswith("To continue: flatout " + " ".join(command))
        safe = int(told.partition(" answers are safe")[0].split()[-1].replace(",", ""))
        facts = json.loads(flatout("status", "out.jsonl", "--json", folder=folder).out)
        assert facts["answered"] == safe > 0
        assert not (folder / "out.jsonl").exists()
        before = server.received
        make_room()
        assert flatout(*command, folder=folder).code == 0
        assert server.received - before == 1_000 - safe
    check_answers(folder / "out.jsonl", 1_000)


def test_a_full_disk_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    """Answers that were paid for would be gone, or a run file be left that nobody can go on with."""
    filler = tmp_path / "filler"
    with small_disk(tmp_path):
        check_that_a_full_disk_loses_nothing(
            tmp_path, "the disk is full", lambda: filler.write_bytes(bytes(7_500_000)), filler.unlink
        )


def test_a_file_that_may_not_grow_loses_nothing_that_was_reported(tmp_path: Path) -> None:
    """As with a full disk: a quota, or the largest size of a file."""

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, resource.RLIM_INFINITY))

    def nothing() -> None:
        pass

    check_that_a_full_disk_loses_nothing(tmp_path, "the disk failed", nothing, nothing, prepare=little_room)


def test_no_room_for_the_output_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    """Half an output would look like a whole one."""
    questions(tmp_path, 300)
    with provider() as server:
        assert flatout(*RUN, *server.options(), *PLENTY, folder=tmp_path).code == 0

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))

    whole = (tmp_path / "out.jsonl").read_bytes()
    done = flatout("export", "out.jsonl", "-o", "out.jsonl", folder=tmp_path, prepare=little_room)
    assert done.code == 2
    assert done.err == "flatout: out.jsonl: cannot be written: File too large\n"
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.flatout"]
