"""The batch lane in real processes over HTTP. `tests.crash.test_batch_kills` kills them."""

from __future__ import annotations

import json
import time
from pathlib import Path

from flatout.testing import BatchSettings
from tests.support.command_samples import check_answers, provider, questions
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl", "--lane", "batch")
UNDER_WAY = 3


def test_a_line_of_cron(tmp_path: Path) -> None:
    """Detached runs would not come back for their answers, or would not tell that they are finished."""
    questions(tmp_path, 20)
    with provider(batch=BatchSettings(time=2.0, validating=0.2, finalizing=0.2)) as server:
        command = (*RUN, *server.options(), "--detach")
        first = flatout(*command, folder=tmp_path)
        assert first.code == UNDER_WAY
        assert "1 batch with 20 rows" in first.err
        facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
        assert facts["state"] == "detached"
        assert 0 <= time.time() - facts["batches"]["oldest"] < 3_600
        nothing_paid = {"cost": 0.0, "saved": 0.0, "unknown_costs": 0}  # there is no answer yet
        begun = {"open": 1, "rows": 20, "all": 1, "states": "validating", **nothing_paid}
        assert facts["batches"] | begun == facts["batches"]
        assert ", validating, " in flatout("batch", "ls", folder=tmp_path).out
        (tmp_path / "elsewhere").mkdir()
        assert str(tmp_path / "out.jsonl.flatout") in flatout("batch", "ls", folder=tmp_path / "elsewhere").out
        assert "in batch 1" in flatout("trace", "out.jsonl", "7", folder=tmp_path).out
        assert flatout(*command[:-1], "--lane", "live", folder=tmp_path).code == 2
        codes = [flatout(*command, folder=tmp_path).code]
        while codes[-1] == UNDER_WAY and len(codes) < 30:
            time.sleep(1.0)
            codes.append(flatout(*command, folder=tmp_path).code)
        assert codes[-1] == 0
        assert server.stats()["duplicates"] == 0
        collected = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)["batches"]
        assert collected["open"] == 0
        assert collected["oldest"] is None
        assert collected["unknown_costs"] == 20  # nobody knows the price of this model
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
