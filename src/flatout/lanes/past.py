"""Remembers how long batches took, in a small file of the user's, and tells what that means for the next one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from flatout.config.folders import state_folder
from flatout.errors import ConfigError
from flatout.values import Target
from flatout.values.secret import veiled_url

from .escalation import spoken

ENOUGH = 5
"""Past batches from which the next one's time is told. Any of n is as likely to be the longest, so the longest of 5 and
the next one exceeds all before it in one case of 6; `MARGIN` is for that."""

LATELY = 20
"""How many past batches count: providers change, and so do their queues."""

MARGIN = 1.5
"""The next batch may take this many times as long as the longest of the past ones."""

ALIKE = 4
"""A past batch counts if it had at least a fourth of the rows: small ones say nothing about large ones."""

WORD = 86_400.0
"""What providers promise, in seconds. Some give a batch up later than that (Gemini after two days, Azure never)."""

PROMPT = 0.95
"""A promise of 24 hours is good for answers within 24 hours, although minutes pass until the last batch is packed."""

FILE = "batches.jsonl"
"""The file's name in the folder of the user's decisions."""

LARGEST = 128 * 1024
"""Bytes of the file from which its older half is dropped."""


class Past(Struct, frozen=True, gc=False):
    """A batch that has ended.

    Attributes:
        target: where it was, such as ``openai/gpt-5-mini``.
        rows: how many rows it had.
        seconds: from its submission to its end.
        at: when it ended; Unix seconds.
        server: its address, without what may be a key. Servers with the same name and model differ in speed. "" in the
            lines of earlier versions, which count for all of them.
    """

    target: str
    rows: int
    seconds: float
    at: float
    server: str = ""


def server_of(target: Target) -> str:
    """The address of a target, as the past names it."""
    return veiled_url(target.endpoint.base_url)


def batch_seconds(past: Iterable[Past], target: Target, rows: int, word: float = WORD) -> tuple[float, str]:
    """The time in which a batch will have ended, and where that is from, in words.

    Args:
        past: past batches, the oldest first.
        target: where the batch is.
        rows: how many rows it has.
        word: the provider's own promise, in seconds.
    """
    alike = seconds_of_alike(past, target, rows)
    if not alike:
        return PROMPT * word, f"the provider promises {spoken(word)}"
    return min(PROMPT * word, MARGIN * max(alike)), _told(alike)


def learnt_of(past: Iterable[Past], target: Target) -> str:
    """How long the last batches of a target took, in words; "" if there were none."""
    alike = _alike(past, target, 0)
    return _told(alike) if alike else ""


def learnt_of_name(past: Iterable[Past], name: str) -> str:
    """How long the last batches of a target's name took, in words; "" if there were none, or if servers differ."""
    same = [one for one in past if one.target == name][-LATELY:]
    servers = {one.server for one in same if one.server}
    return _told([one.seconds for one in same]) if same and len(servers) < 2 else ""


def seconds_of_alike(past: Iterable[Past], target: Target, rows: int) -> list[float]:
    """How long the last batches of a target took that were not much smaller; empty if too few are known."""
    alike = _alike(past, target, rows)
    return alike if len(alike) >= ENOUGH else []


def _alike(past: Iterable[Past], target: Target, rows: int) -> list[float]:
    name, servers = target.name, ("", server_of(target))
    same = (one for one in past if one.target == name and one.server in servers)
    return [one.seconds for one in same if one.rows * ALIKE >= rows][-LATELY:]


def _told(alike: Sequence[float]) -> str:
    if len(alike) == 1:
        return f"the last batch took {spoken(alike[0])}"
    return f"the last {len(alike)} batches took up to {spoken(max(alike))}"


def recalled() -> list[Past]:
    """The user's past batches, the oldest first; none without a home folder."""
    try:
        return recall(state_folder())
    except ConfigError:
        return []


def recall(folder: Path) -> list[Past]:
    """The past batches, the oldest first. Lines that cannot be read are left out: they are worth nothing but time."""
    try:
        content = (folder / FILE).read_bytes()
    except OSError:
        return []
    return [past for line in content.splitlines() if (past := _read(line)) is not None]


def remember(folder: Path, ended: Sequence[Past]) -> None:
    """Add batches that have ended. Several processes may do so at once: each line is written in one piece.

    Raises:
        OSError: the file cannot be written. Nothing but the learning is lost.
    """
    if not ended:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    if file.exists() and file.stat().st_size > LARGEST:
        _shorten(file)
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, b"".join(_encoder.encode(past) + b"\n" for past in ended))
    finally:
        os.close(handle)


def _shorten(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_bytes(b"".join(lines[len(lines) // 2 :]))
    beside.replace(file)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Past)


def _read(line: bytes) -> Past | None:
    try:
        past = _decoder.decode(line)
    except ValueError:
        return None
    return past if past.rows > 0 and 0 <= past.seconds < 1e8 else None
