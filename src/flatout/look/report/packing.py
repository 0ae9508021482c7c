"""Packs the rows of a run for the page: compressed, and cut so that the page stays small."""

from __future__ import annotations

import time
import zlib
from base64 import b64encode
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from flatout.runs.story.agent import trace_of
from flatout.runs.story.node import Node, as_text
from flatout.runs.story.tree import trace
from flatout.store import History, Item, RunReader, histories
from flatout.text.halves import to_json
from flatout.text.redact import excerpt

from .model import Rows
from .tally import waits_of

MOST_ROWS = 10_000
"""Rows in the table; and as many failed ones more."""

MOST_BYTES = 2_300_000
"""Bytes that all texts together take in the page."""

LONGEST_TEXT = 4_000
"""Characters of a prompt or an answer that the page keeps, if there is room."""

_SHORTEST_TEXT = 120
_TOGETHER = 250
_ID = 120  # characters of an id, a model's name, a class of error

COLUMNS = (
    *("row", "id", "variant", "state", "error", "model"),
    *("seconds", "provider", "attempts", "input", "output", "cost", "finish"),
)


class Table:
    """Takes rows in index order and packs those that the page shows.

    With more than ``most`` rows, it shows a sample of the answered ones, drawn evenly, and the failed ones.

    Args:
        reader: the run file.
        answered, failed: how many rows there are of each.
        variants: the names of the variants of each row.
        most: see `MOST_ROWS`.
    """

    def __init__(
        self, reader: RunReader, answered: int, failed: int, variants: Sequence[str] = (), most: int = MOST_ROWS
    ) -> None:
        self._reader = reader
        self._live = reader.holder() is not None
        self._variants = variants
        self._draw = Random(1)
        self._left = {True: answered, False: failed}
        self._wanted = {True: min(answered, max(most - min(failed, most), most // 10)), False: min(failed, most)}
        self._shown, self._total = sum(self._wanted.values()), answered + failed
        self._sampled = [kind for kind in (True, False) if self._wanted[kind] < self._left[kind]]
        self._waiting: list[Item] = []
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]
        self._texts: list[str] = []
        self._room = MOST_BYTES
        self._most_text = _bounded(2 * MOST_BYTES // max(1, self._shown))  # compression is about to show how much fits

    def add(self, item: Item) -> None:
        """Take a row, if it is among those that are shown."""
        kind = item.state == "answered"
        left, self._left[kind] = self._left[kind], self._left[kind] - 1
        if left > 0 and self._draw.random() * left < self._wanted[kind]:  # each is as likely as any other
            self._wanted[kind] -= 1
            self._waiting.append(_cut(item))
            if len(self._waiting) == _TOGETHER:
                self._pack()

    def rows(self) -> Rows:
        """All that were taken."""
        self._pack()
        count = len(self._columns[0])
        return Rows(
            columns=COLUMNS,
            packed=packed(self._columns),
            texts=tuple(self._texts),
            together=_TOGETHER,
            count=count,
            total=self._total,
            note=self._note(count),
        )

    def _note(self, count: int) -> str:
        if not self._sampled:
            return ""
        failed = "a sample of the failed ones" if False in self._sampled else "all failed ones"
        return f"{count:,} of {self._total:,} rows: a sample of the answered ones, and {failed}."

    def _pack(self) -> None:
        if not self._waiting:
            return
        now, texts = time.time(), []
        for history in histories(self._reader, self._waiting):
            item = history.item
            assert item is not None
            for column, value in zip(self._columns, self._figures(item), strict=True):
                column.append(value)
            texts.append(texts_of(history, self._most_text, live=self._live, now=now))
        self._texts.append(packed(texts))
        self._waiting = []
        self._fit()

    def _fit(self) -> None:
        """Set how much of the next texts is kept: the more room is left for each row, the more."""
        self._room -= len(self._texts[-1])
        left = max(1, self._shown - len(self._columns[0]))
        fair = max(0, self._room) / left
        used = len(self._texts[-1]) / _TOGETHER
        grown = self._most_text * min(1.5, max(0.3, fair / max(used, 1.0)))
        self._most_text = _bounded(grown)

    def _figures(self, item: Item) -> tuple[Any, ...]:
        variant = self._variants[item.index % len(self._variants)] if self._variants else None
        return (
            item.index + 1,
            item.id and item.id[:_ID],
            variant,
            item.state,
            item.error and item.error[:_ID],
            item.model and item.model[:_ID],
            _rounded(item.seconds),
            _rounded(item.provider_seconds),
            item.attempts,
            item.input_tokens,
            item.output_tokens,
            item.cost and float(f"{item.cost:.4g}"),
            item.finish_reason and item.finish_reason[:_ID],
        )


def _bounded(characters: float) -> int:
    return int(min(LONGEST_TEXT, max(_SHORTEST_TEXT, characters)))


def packed(value: Any) -> str:
    """A value as JSON, compressed and in letters that every page can hold."""
    return b64encode(zlib.compress(to_json(value), 6)).decode()


def _cut(item: Item) -> Item:
    """The item without the far ends of its texts, so that those in waiting take little memory."""
    most = 4 * LONGEST_TEXT
    answer = item.answer[:most] if item.answer is not None else None
    return item if answer == item.answer else replace(item, answer=answer)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.4g}")


def texts_of(history: History, most: int, *, live: bool, now: float) -> dict[str, Any]:
    """What is seen when a row is opened. Names are short: they stand there for every row.

    Args:
        history: the row; it need not be finished.
        most: characters of each text.
        live: whether a process is writing the run.
        now: Unix time.
    """
    item = history.item
    found: dict[str, Any] = {"trace": _trace(history, live=live, now=now)}
    if item is not None:
        answer, output = _said(item)
        found |= {
            "prompt": _prompt(item, most),
            "answer": excerpted(answer, most),
            "output": excerpted(output, most),
            "message": excerpted(item.error_message, min(most, 1_000)),
            "waits": {cause[:_ID]: float(f"{seconds:.3g}") for cause, seconds in list(waits_of(item).items())[:20]},
        }
    return {name: value for name, value in found.items() if value}


def _said(item: Item) -> tuple[str | None, str | None]:
    """The answer as text and as data. Of an agent's run, its answer alone: its trace is shown as what happened."""
    output = item.output.decode(errors="replace") if item.output is not None else None
    if item.output is None or not _is_agents(item) or (agent := trace_of(item.output)) is None:
        return item.answer, None if output == item.answer else output
    return (as_text(agent.answer) if agent.answer is not None else item.answer), None


def excerpted(text: str | None, most: int) -> str | None:
    """The beginning of a text, without keys, with an ellipsis if it goes on."""
    if text is None:
        return None
    return f"{excerpt(text, most)}…" if len(text) > most else excerpt(text, most)


def _prompt(item: Item, most: int) -> str | None:
    """The question: the last message of the rendered call, or the input's row."""
    if (kept := item.prompt or item.input) is None:
        return None
    try:
        made = msgspec.json.decode(kept)
    except msgspec.MsgspecError:
        made = None
    text = made.get("prompt") if isinstance(made, dict) else None
    if text is None and isinstance(made, dict) and isinstance(messages := made.get("messages"), list):
        text = "\n\n".join(
            f"{each.get('role')}: {each.get('content')}" if len(messages) > 1 else str(each.get("content"))
            for each in messages
            if isinstance(each, dict)
        )
    return excerpted(text if isinstance(text, str) and text else kept[: 2 * most].decode(errors="replace"), most)


def _trace(history: History, *, live: bool, now: float) -> list[Any]:
    """The events of a row, if there is more to tell than one attempt that was answered."""
    if history.item is not None and _is_plain(history, history.item):
        return []
    nodes = trace(history, live=live, now=now).children
    return [msgspec.to_builtins(node) for node in nodes if not _is_known(node)]


def _is_plain(history: History, item: Item) -> bool:
    if item.attempts > 1 or item.state != "answered" or len(history.attempts) > 1:
        return False
    return not (history.journal or item.trail or item.tool_calls or _is_agents(item))


def _is_agents(item: Item) -> bool:
    """Whether an output may be an agent's outcome: most are not, and need not be decoded to be told."""
    return item.output is not None and b'"trace"' in item.output


def _is_known(node: Node) -> bool:
    """Whether the page shows it already."""
    return node.kind in ("asked", "answer", "wait")
