"""``flatout run --workers N``: what holds for one process holds for several, whichever of them is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from flatout.testing import Faults
from tests.support.command_samples import (
    PLENTY,
    check_answers,
    end,
    eventually,
    is_answer,
    provider,
    questions,
    rows_of,
    start,
    wait_until_said,
)
from tests.support.ports import free_port
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl")
TWO, THREE = ("--workers", "2"), ("--workers", "3")

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The workers that run now."""
    children: list[int] = []
    for listed in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            children += map(int, listed.read_text().split())
    return list(filter(is_running, children))


def is_running(pid: int) -> bool:
    """Whether a process runs, and is no mere entry in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_variant_of_a_row_stands_in_its_place(tmp_path: Path) -> None:
    """With several workers rows would be lost or swapped, or more be in flight than the server takes."""
    count = 100
    questions(tmp_path, count)
    with provider() as server:
        command = (*RUN, *server.options(), "--samples", "4", "--concurrency", "7", *TWO)
        done = flatout(*command, folder=tmp_path)
        assert done.code == 0, done.err
        assert server.received == 4 * count
        assert server.stats()["most_in_flight"] <= 7
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [f"q{number}" for number in range(count) for _ in range(4)]
    assert [row["sample"] for row in rows] == [0, 1, 2, 3] * count
    assert all(is_answer(row["answer"], row["prompt"]) for row in rows)
    assert "400 answered" in done.err


def test_rows_fail_alone(tmp_path: Path) -> None:
    """One failure would take a worker's other rows along, or the summary count only one worker's."""
    questions(tmp_path, 60)
    with provider(faults=Faults(invalid=0.3)) as server:
        done = flatout(*RUN, *server.options(), *PLENTY, *TWO, folder=tmp_path)
        assert server.received == 60
    failed = [row["error"] for row in rows_of(tmp_path / "out.jsonl") if row["answer"] is None]
    assert failed
    assert f"{60 - len(failed)} answered, {len(failed)} failed" in done.err
    assert f"{len(failed)} × InvalidRequest" in done.err
    assert done.code == 1


def test_a_run_goes_on_with_any_number_of_workers(tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to all of them, would lose answers; the next run would ask twice."""
    count = 600
    questions(tmp_path, count)
    with provider(latency=0.3) as server:
        slowly = (*RUN, *server.options(), "--rpm", "12k", "--concurrency", "60", "--no-prompts")
        process = start(*slowly, *TWO, folder=tmp_path, prepare=os.setpgrp)
        server.wait_for(60)
        os.killpg(process.pid, signal.SIGINT)
        done = end(process)
        stats = server.stats()
        assert done.code == 130
        assert f"{stats['received']} answered, {count - stats['received']} still to do" in done.err
        assert stats["answered"] == stats["received"] < count
        process = start(*slowly, *THREE, folder=tmp_path)
        server.wait_for(stats["received"] + 60)
        process.send_signal(signal.SIGTERM)
        assert end(process).code == 130
        assert flatout(*RUN, *server.options(), *PLENTY, "--no-prompts", folder=tmp_path).code == 0
        assert server.received == count
    check_answers(tmp_path / "out.jsonl", count)


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """A run whose provider hangs could not be ended but with kill -9."""
    questions(tmp_path, 20)
    with provider(latency=3_600.0) as server:
        often = {"FLATOUT_PROGRESS_SECONDS": "0.1"}
        process = start(*RUN, *server.options(), *PLENTY, *TWO, folder=tmp_path, env=often)
        server.wait_for(20)
        process.send_signal(signal.SIGINT)
        wait_until_said(process, "Ctrl-C again drops them")  # two signals that come together are one
        process.send_signal(signal.SIGINT)
        done = end(process)
    assert done.code == 130
    assert "0 answered, 20 still to do" in done.err


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """A worker that the system kills for its memory would end the run, or lose its rows."""
    count = 1_000
    questions(tmp_path, count)
    with provider(latency=0.1) as server:
        process = start(*RUN, *server.options(), "--rpm", "18k", "--concurrency", "30", *TWO, folder=tmp_path)
        for received in (150, 400):
            server.wait_for(received)
            os.kill(workers_of(process)[0], signal.SIGKILL)
        done = end(process)
        assert done.code == 0, done.err
        stats = server.stats()
        assert done.err.count("a worker process has died: it was killed by SIGKILL") == 2
        assert stats["received"] - count <= stats["most_in_flight"] * 2
    assert f"{count:,} answered" in done.err
    check_answers(tmp_path / "out.jsonl", count)


def test_a_row_that_kills_its_workers_ends_the_run(tmp_path: Path) -> None:
    """A row that needs too much memory would kill one worker after another, and be paid for each time."""
    questions(tmp_path, 1)
    with provider(latency=3_600.0) as server:
        process = start(*RUN, *server.options(), *PLENTY, *TWO, folder=tmp_path)
        for deaths in range(3):
            server.wait_for(deaths + 1)
            (worker,) = workers_of(process)
            os.kill(worker, signal.SIGKILL)
            eventually(lambda gone=worker: not is_running(gone))
        done = end(process)
    assert done.code == 1
    assert "3 worker processes died one after another: it was killed by SIGKILL" in done.err
    assert "To continue: flatout run" in done.err


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    """After kill -9 of the run, its workers would go on paying for answers that nobody writes down."""
    count = 800
    questions(tmp_path, count)
    with provider(latency=0.2) as server:
        process = start(*RUN, *server.options(), "--rpm", "18k", "--concurrency", "60", *TWO, folder=tmp_path)
        server.wait_for(200)
        server.change(latency=3_600.0)  # the workers have no other reason to end than their parent's death
        workers = workers_of(process)
        assert len(workers) == 2
        process.kill()
        eventually(lambda: not any(map(is_running, workers)))
        end(process)
        server.change(latency=0.01)
        taken_on = 76  # calls at once, where 60 may be in flight: the answers of some are on their way to the disk
        assert flatout(*RUN, *server.options(), *PLENTY, *THREE, folder=tmp_path).code == 0
        assert server.received - count <= taken_on
    check_answers(tmp_path / "out.jsonl", count)


def test_workers_spend_one_budget(tmp_path: Path) -> None:
    """Each of them would spend the whole budget; or what they had borrowed would stay lent after their end."""
    questions(tmp_path, 60)
    with provider() as server:
        name = f"{server.url.removeprefix('http://').removesuffix('/v1')}/any"
        (tmp_path / "flatout.toml").write_text(f'[prices."{name}"]\ninput = 1000.0\noutput = 1000.0\n')
        command = (*RUN, *server.options(), *PLENTY, *TWO, "--param", "max_tokens=20")
        done = flatout(*command, "--budget", "0.5", folder=tmp_path)
        spent = server.stats()
        assert done.code == 1
        assert 0.3 < (spent["prompt_tokens"] + spent["output_tokens"]) * 0.001 <= 0.5
        assert "held back by the budget" in done.err
        home = {"XDG_STATE_HOME": str(tmp_path / "state")}
        assert flatout(*command, "--budget", "5/day:team", folder=tmp_path, env=home).code == 0
        (account,) = json.loads(flatout("budget", "ls", "--json", folder=tmp_path, env=home).out)
        assert (account["lent"], account["spent"] > 0.0) == ([], True)
        assert server.stats()["received"] == server.stats()["answered"] == 60
    check_answers(tmp_path / "out.jsonl", 60)


def test_workers_keep_to_one_limit(tmp_path: Path) -> None:
    """Each of them would take the whole limit, and the provider refuse most of it."""
    questions(tmp_path, 150)
    with provider(rpm=3_000.0, burst=1.0, latency=0.1, slots=8, queue=0) as server:
        limits = ("--rpm", "3000", "--burst", "1", "--concurrency", "8")
        done = flatout(*RUN, *server.options(), *limits, *THREE, folder=tmp_path)
        assert done.code == 0, done.err
        stats = server.stats()
        assert stats["most_in_flight"] <= 8
        assert stats["received"] == 150
        assert stats["refused"] == 0


def test_metrics_of_all_workers_are_served_as_one(tmp_path: Path) -> None:
    """Prometheus would have to read a port for each worker; after one has died, counters would fall."""
    pytest.importorskip("prometheus_client")
    questions(tmp_path, 4_000)  # it goes on for as long as it is looked at
    port = free_port()

    def counted() -> float:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("flatout_attempts_total{"))
        return 0.0

    with provider(latency=0.2) as server:
        options = (*RUN, *server.options(), "--rpm", "4800", "--concurrency", "16", "--metrics", str(port))
        process = start(*options, *TWO, folder=tmp_path)
        eventually(lambda: counted() > 80)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        before = counted()
        eventually(lambda: counted() > before + 50)
        assert counted() <= server.received
        process.send_signal(signal.SIGINT)
        assert end(process).code == 130
    assert counted() == 0.0


def test_a_bad_row_in_a_pipe_ends_workers_that_have_just_begun(tmp_path: Path) -> None:
    """What was answered before it would be gone; a worker that was being started would die with a traceback."""
    rows = b'"question 0"\n"question 1"\nnonsense\n'
    with provider() as server:
        given = ("run", "-", "-o", "out.jsonl", *server.options(), *PLENTY, *TWO)
        done = flatout(*given, folder=tmp_path, stdin=rows)
        assert server.stats()["answered"] == 2
    assert done.code == 1
    assert "stdin, line 3: not JSON" in done.err
    assert "died" not in done.err


def test_the_embedded_model_wants_no_workers(tmp_path: Path) -> None:
    """Each worker would start a server of its own, and the machine compute everything at a crawl."""
    questions(tmp_path, 3)
    done = flatout(*RUN, "-m", "local", *TWO, folder=tmp_path)
    assert done.code == 2
    assert "leave --workers out" in done.err or "flatout[local]" in done.err
