"""The batch lane in real processes over HTTP, which are killed: nothing is lost, and nothing is paid for twice."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

from flatout.testing import BatchSettings
from tests.support.command_samples import check_answers, end, flatout, provider, questions, start

RUN = ("run", "in.jsonl", "-o", "out.jsonl", "--lane", "batch")
QUICK = BatchSettings(time=2.0, validating=0.5, finalizing=0.2, most_rows=100)
UNDER_WAY = 3


def test_killed_again_and_again(tmp_path: Path) -> None:
    """After a power failure a whole batch would be submitted, and paid for, a second time; or its rows be lost."""
    questions(tmp_path, 250)
    draw = random.Random(1)
    with provider(batch=QUICK) as server:
        command = (*RUN, *server.options())
        for _ in range(8):
            process = start(*command, folder=tmp_path)
            before = server.received
            patience = time.monotonic() + 4.0
            until = before + draw.randrange(1, 7)
            while server.received < until and time.monotonic() < patience:
                time.sleep(0.005)
            process.kill()
            assert end(process).code in (-signal.SIGKILL, 0)
        assert flatout(*command, folder=tmp_path).code == 0
        stats = server.stats()
    assert (stats["duplicates"], stats["answered"], stats["batches"]["open"]) == (0, 250, 0)
    check_answers(tmp_path / "out.jsonl", 250)


def test_a_line_of_cron(tmp_path: Path) -> None:
    """Detached runs would not come back for their answers, or would not tell that they are finished."""
    questions(tmp_path, 20)
    with provider(batch=BatchSettings(time=2.0, validating=0.2, finalizing=0.2)) as server:
        command = (*RUN, *server.options(), "--detach")
        first = flatout(*command, folder=tmp_path)
        assert first.code == UNDER_WAY
        assert "1 batch with 20 rows" in first.err
        facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
        assert facts["batches"] == {"open": 1, "rows": 20, "all": 1}
        assert "at the provider for" in flatout("batch", "ls", folder=tmp_path).out
        assert "in batch 1" in flatout("trace", "out.jsonl", "7", folder=tmp_path).out
        assert flatout(*command[:-1], "--lane", "live", folder=tmp_path).code == 2
        codes = [flatout(*command, folder=tmp_path).code]
        while codes[-1] == UNDER_WAY and len(codes) < 30:
            time.sleep(1.0)
            codes.append(flatout(*command, folder=tmp_path).code)
        assert codes[-1] == 0
        assert server.stats()["duplicates"] == 0
    check_answers(tmp_path / "out.jsonl", 20)


def test_cancelled(tmp_path: Path) -> None:
    """A batch that was a mistake would have to be cancelled by hand, at the provider, under a name nobody knows."""
    questions(tmp_path, 20)
    with provider(batch=BatchSettings(time=500.0, validating=0.1, cancelling=0.5)) as server:
        command = (*RUN, *server.options(), "--detach")
        assert flatout(*command, folder=tmp_path).code == UNDER_WAY
        done = flatout("batch", "cancel", "out.jsonl", "--base-url", server.url, folder=tmp_path)
        assert done.code == 0, done.err
        assert "cancelled" in done.err
        live = flatout("run", "in.jsonl", "-o", "out.jsonl", *server.options(), "--rpm", "60k", folder=tmp_path)
        assert live.code == 0, live.err
        assert server.stats()["duplicates"] == 0
    check_answers(tmp_path / "out.jsonl", 20)
