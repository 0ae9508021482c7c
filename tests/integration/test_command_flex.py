"""The flex lane of the command, in real processes over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_samples import check_answers, end, eventually, provider, questions, start
from tests.support.quick_commands import flatout

RUN = ("run", "in.jsonl", "-o", "out.jsonl", "-m", "sim/any", "--lane", "flex", "--rpm", "60k")
FOR_EVER = 1e9


def configure(folder: Path, url: str) -> dict[str, str]:
    """An endpoint that is spoken to as OpenAI's, flex tier included. Returns the environment."""
    (folder / "flatout.toml").write_text(
        f'[endpoints.sim]\nprovider = "openai"\nbase_url = "{url}"\nkey_env = "SIM_KEY"\n'
        '[prices."sim/any"]\ninput = 1.0\noutput = 2.0\n[prices."sim/any@flex"]\ninput = 0.5\noutput = 1.0\n'
    )
    return {"SIM_KEY": "k"}


def test_rows_wait_for_room_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    """A refusal for want of room would fail the row; or what was answered be paid again after a crash."""
    questions(tmp_path, 60)
    with provider(latency=0.2) as server:
        env = configure(tmp_path, server.url)
        command = (*RUN, "--config", "flatout.toml", "--concurrency", "6")
        first = start(*command, folder=tmp_path, env=env)
        server.wait_for(20)
        server.change(no_room=(0.0, FOR_EVER))
        eventually(lambda: "no_room" in server.stats()["faults"])
        first.kill()
        end(first)
        before, taken_on = server.stats(), 8  # calls at once, where 6 may be in flight
        second = start(*command, "--workers", "2", folder=tmp_path, env=env)
        eventually(lambda: server.stats()["faults"]["no_room"] > before["faults"]["no_room"])
        server.change(no_room=None)
        done = end(second)
        assert done.code == 0, done.err
        assert server.stats()["duplicates"] <= taken_on
    check_answers(tmp_path / "out.jsonl", 60)
    facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
    assert facts["lane"] == "flex"
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    usage = row["input_tokens"], row["output_tokens"]
    assert abs(row["cost"] - (usage[0] * 0.5 + usage[1] * 1.0) / 1e6) < 1e-9
    assert "sim/any@flex" in flatout("trace", "out.jsonl", "7", folder=tmp_path).out
