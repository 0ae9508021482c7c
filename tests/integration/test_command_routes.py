"""Routes over HTTP: several simulated servers, one of which dies; a command that is killed and continued; workers."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.command_samples import Provider, check_answers, end, provider, questions, rows_of, start
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl", "-m", "both", "--config", "flatout.toml")
PRICES = {"a": 1.0, "b": 3.0}
PLENTY = "rpm = 60_000"


def prepare(folder: Path, servers: dict[str, Provider], count: int, *, route: str = "", limits: str = PLENTY) -> None:
    """An input, and a flatout.toml with a route over the servers."""
    endpoints = "".join(
        f'[endpoints.{name}]\nbase_url = "{server.url}"\n[limits.{name}]\n{limits}\n'
        f'[prices."{name}/m"]\ninput = 0.0\noutput = {PRICES.get(name, 1.0)}\n'
        for name, server in servers.items()
    )
    route = route or "targets = [" + ", ".join(f'"{name}/m"' for name in servers) + "]"
    (folder / "flatout.toml").write_text(f"[routes.both]\n{route}\n{endpoints}")
    questions(folder, count)


def status(folder: Path) -> dict[str, Any]:
    return json.loads(flatout("status", "out.jsonl", "--json", folder=folder).out)


def trace(folder: Path, row: int) -> list[dict[str, Any]]:
    shown = json.loads(flatout("trace", "out.jsonl", str(row), "--json", folder=folder).out)
    return shown["trace"]["children"]


def test_a_run_outlives_a_server_and_a_kill(tmp_path: Path) -> None:
    """Rows would be lost or paid twice when a server dies, or the command; nobody could tell who answered."""
    count, strict = 900, {"latency": 0.5, "rpm": 3_000, "burst": 1.0}
    with ExitStack() as mortal, provider(**strict) as b:
        a = mortal.enter_context(provider(**strict))
        prepare(tmp_path, {"a": a, "b": b}, count, limits="rpm = 3_000")
        process = start(*RUN, folder=tmp_path)
        a.wait_for(60)
        process.send_signal(signal.SIGKILL)
        end(process)
        before = a.received
        process = start(*RUN, folder=tmp_path)
        a.wait_for(before + 60)
        counts = a.stats()
        mortal.close()
        done = end(process)
        assert done.code == 0, done.err
        in_flight = counts["most_in_flight"] + b.stats()["most_in_flight"]
        assert counts["received"] + b.received <= count + 2 * in_flight
    check_answers(tmp_path / "out.jsonl", count)
    rows = rows_of(tmp_path / "out.jsonl")
    assert {row["target"] for row in rows} == {"a/m", "b/m"}
    facts = status(tmp_path)
    assert sum(share["answered"] for share in facts["targets"].values()) == count
    assert "targets" in done.err
    assert "targets" in flatout("status", "out.jsonl", folder=tmp_path).out
    for name in ("a", "b"):
        own = [row for row in rows if row["target"] == f"{name}/m"]
        assert len(own) == facts["targets"][f"{name}/m"]["answered"]
    moved = [number for number, row in enumerate(rows, 1) if row["attempts"] > 1]
    if moved:
        targets = [node for node in trace(tmp_path, moved[0]) if node["kind"] == "target"]
        *left, last = [node["outcome"] for node in targets] or ["answered"]
        assert last == "answered"
        assert set(left) <= {"left"}  # more than once where the other server was busy, too


def test_workers_share_the_limits_of_each_target(tmp_path: Path) -> None:
    """Each worker would use each target's whole limit; the rows of one would not show in the summary."""
    # Two seconds of the limit at once: a busy machine bunches what is sent evenly. Two whole limits would pass that.
    strict = {"rpm": 1_200, "burst": 2.0, "latency": 0.2}
    with provider(**strict) as a, provider(**strict) as b:
        prepare(tmp_path, {"a": a, "b": b}, 300, limits="rpm = 1_200\nburst = 1.0")
        done = flatout(*RUN, "--workers", "2", folder=tmp_path)
        assert done.code == 0, done.err
        counts = [server.stats() for server in (a, b)]
    assert sum(each["answered"] for each in counts) == 300
    assert all(each["answered"] > 100 for each in counts)
    assert sum(each["refused"] for each in counts) <= 6
    shares = status(tmp_path)["targets"]
    assert {name: share["answered"] for name, share in shares.items()} == {
        "a/m": counts[0]["answered"],
        "b/m": counts[1]["answered"],
    }
    for name, share in shares.items():
        assert f"{name}  {share['answered']} answers" in done.err


def test_hedges_of_workers_are_noted(tmp_path: Path) -> None:
    """A worker would fail on the second note of a row, or the run file miss an attempt that was paid for."""
    slow = {"latency": 0.1, "latency_p99": 3.0}
    with provider(**slow) as a, provider(**slow) as b:
        route = 'targets = ["a/m", "b/m"]\norder = "spread"\nhedge = 0.3'
        prepare(tmp_path, {"a": a, "b": b}, 400, route=route, limits="rpm = 3_000")
        done = flatout(*RUN, "--workers", "2", folder=tmp_path)
        assert done.code == 0, done.err
        received = a.received + b.received
    check_answers(tmp_path / "out.jsonl", 400)
    rows = rows_of(tmp_path / "out.jsonl")
    # One that loses before it is on the wire is noted, and not received.
    assert 400 < received <= sum(row["attempts"] for row in rows) <= 400 * 1.3 + 40
    hedged = next(number for number, row in enumerate(rows, 1) if row["attempts"] == 2)
    targets = [node for node in trace(tmp_path, hedged) if node["kind"] == "target"]
    assert [(node["outcome"], node.get("detail")) for node in targets] == [("left", "Hedged"), ("answered", None)]


def test_another_model_answers_what_the_first_cannot_and_costs_its_own_price(tmp_path: Path) -> None:
    """The bill would name the wrong price, or the cache give another model's answer for the first one's."""
    with provider(context_tokens=60) as a, provider() as b:
        prepare(tmp_path, {"a": a, "b": b}, 40, route='targets = ["a/m"]\nfallback = { context = "b/m" }')
        rows = [{"id": f"q{n}", "prompt": f"question {n} " + "word " * (400 if n % 4 == 0 else 1)} for n in range(40)]
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = flatout(*RUN, "--cache", "answers.cache", folder=tmp_path)
        assert done.code == 0, done.err
        assert (a.stats()["answered"], b.received) == (30, 10)
        answered = rows_of(tmp_path / "out.jsonl")
        for number, row in enumerate(answered):
            name = "b" if number % 4 == 0 else "a"
            assert row["target"] == f"{name}/m"
            assert abs(row["cost"] - PRICES[name] * row["output_tokens"] / 1e6) < 1e-12
        again = flatout(*RUN[:3], "again.jsonl", *RUN[4:], "--cache", "answers.cache", folder=tmp_path)
        assert again.code == 0, again.err
        assert (a.stats()["answered"], b.received) == (30, 20)
