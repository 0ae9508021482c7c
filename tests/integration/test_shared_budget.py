"""One budget over several processes, of which some are killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.support.command_samples import PLENTY, end, flatout, provider, questions, start

PER_TOKEN = 0.001


def test_processes_share_a_budget_whichever_of_them_is_killed(tmp_path: Path) -> None:
    """Two runs side by side would spend twice what was allowed, and each kill give the budget back what was billed."""
    questions(tmp_path, 300)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with provider(latency=0.1) as server:
        name = f"{server.url.removeprefix('http://').removesuffix('/v1')}/any"
        prices = f'[prices."{name}"]\ninput = {PER_TOKEN * 1e6}\noutput = {PER_TOKEN * 1e6}\n'
        (tmp_path / "flatout.toml").write_text(prices)
        # What is in flight at the kill counts as spent. Of calls without number, that might be all of the budget.
        rest = (*server.options(), *PLENTY, "--concurrency", "40", "--param", "max_tokens=20", "--budget", "4/day:team")
        killed = start("run", "in.jsonl", "-o", "a.jsonl", *rest, folder=tmp_path, env=env)
        other = start("run", "in.jsonl", "-o", "b.jsonl", *rest, folder=tmp_path, env=env)
        server.wait_for(20)
        killed.send_signal(signal.SIGKILL)
        end(killed)
        done = end(other)
        assert done.code == 1
        assert "of the budget of $4 a day (team) is left" in done.err
        assert "left to do" in done.err
        again = flatout("run", "in.jsonl", "-o", "a.jsonl", *rest, folder=tmp_path, env=env)
        assert again.code == 1
        stats = server.stats()
        assert 1.0 < (stats["prompt_tokens"] + stats["output_tokens"]) * PER_TOKEN <= 4.0


def test_a_killed_run_that_goes_on_takes_back_what_it_did_not_spend(tmp_path: Path) -> None:
    """Each kill would take a part of the day's money away that nobody has spent."""
    questions(tmp_path, 60)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with provider(latency=0.2) as server:
        name = f"{server.url.removeprefix('http://').removesuffix('/v1')}/any"
        (tmp_path / "flatout.toml").write_text(f'[prices."{name}"]\ninput = 0\noutput = {PER_TOKEN * 1e6}\n')
        rest = (
            *server.options(),
            *PLENTY,
            "--concurrency",
            "10",
            "--param",
            "max_tokens=20",
            "--budget",
            "40/day:team",
        )
        server.hang_after(20)
        killed = start("run", "in.jsonl", "-o", "a.jsonl", *rest, folder=tmp_path, env=env)
        server.wait_for(25)
        killed.send_signal(signal.SIGKILL)
        end(killed)
        server.answer_again()
        (before,) = json.loads(flatout("budget", "ls", "--json", folder=tmp_path, env=env).out)
        assert [lent["alive"] for lent in before["lent"]] == [False]
        doubtful = json.loads(flatout("status", "a.jsonl", "--json", folder=tmp_path, env=env).out)["unsettled"]["cost"]
        done = flatout("run", "in.jsonl", "-o", "a.jsonl", *rest, folder=tmp_path, env=env)
        assert done.code == 0
        (after,) = json.loads(flatout("budget", "ls", "--json", folder=tmp_path, env=env).out)
        billed = server.stats()["output_tokens"] * PER_TOKEN
        assert after["lent"] == []
        assert billed <= after["spent"] <= billed + doubtful + 1e-9
