"""The command line of ``flatout batch``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from flatout.cli.batch import _missing, ls
from flatout.lanes.noted import note
from flatout.store import RunFile
from flatout.store.ledger import Batch


@pytest.mark.parametrize(
    ("command", "base_url", "added"),
    [
        ("flatout run a --base-url http://x/v1 -m m", None, " --base-url http://x/v1"),
        ("flatout run a --base-url 'http://x/v 1'", None, " --base-url 'http://x/v 1'"),
        ("flatout run a --base-url=http://x/v1?a=b --rpm=5", None, " --base-url 'http://x/v1?a=b'"),
        ("flatout run a --base-url http://x/v1", "http://y/v1", ""),
        ("flatout run a -m openai/m", None, ""),
        (None, None, ""),
    ],
)
def test_the_missing_address_of_a_server_is_named(command: str | None, base_url: str | None, added: str) -> None:
    """Whoever cancels would only read that no provider is named like the server."""
    said = f"; add{added}, as the run's command has it" if added else ""
    assert _missing(command, base_url, None) == said


def test_of_runs_elsewhere_the_open_batches_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The few batches that somebody waits for would stand among hundreds that are over."""

    async def write(place: Path) -> None:
        async with RunFile.open(place, job={}) as run:
            empty = Batch(number=1, target="a/m", key="", stamp="", state="open", rows=0, size=0, intended_at=1.0)
            for number in (1, 2):
                await run.ledger.intend(replace(empty, number=number), b"", [])
            await run.ledger.open(1, "job", 2.0)
            await run.ledger.end(1, [], 3.0)

    for name in ("here", "there", "state"):
        (tmp_path / name).mkdir()
    for name in ("here", "there"):
        asyncio.run(write(tmp_path / name / "out.jsonl.flatout"))
        note(tmp_path / "state" / "flatout", tmp_path / name / "out.jsonl.flatout")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path / "here")
    ls()
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    there = tmp_path / "there" / "out.jsonl.flatout"
    assert told == ["out.jsonl.flatout batch 1", "out.jsonl.flatout batch 2", f"{there} batch 2"]
