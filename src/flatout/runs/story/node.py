"""One node of an item's tree, and the functions that turn flat lists of nodes into a tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from flatout.text.halves import to_json
from flatout.text.redact import redact

SHOWN = 500
"""Characters of a prompt, an answer or a message that a node keeps."""

_DEEPEST = 40  # levels; deeper nodes are shown at this depth

Figure = float | None | UnsetType
"""A figure; None if unknown, unset if the node has none."""


class Node(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event, with the events within it.

    Attributes:
        kind: ``row``, ``call``, ``attempt``, ``target`` (of a route), ``wait``, ``asked``, ``answer``, ``tool call``,
            ``step``; for an agent its stages: ``classify``, ``plan``, ``act``, ``tool``, ``guard``, ``approve``,
            ``execute``, ``verify``; within a ``tool`` its ``result``.
        name: the model, tool or stage; the attempt's number; the cause of a wait.
        start: seconds since the item began; below 0 for events of an earlier process.
        seconds: how long it took; None if unknown.
        input_tokens, output_tokens, cost: including everything within; None if unknown, unset if it has none.
        may_cost: the most that an attempt may have cost, in US dollars, if its end is unknown. A row has it beside
            ``cost``. None if unknown.
        target: where an attempt was sent.
        outcome: ``answered``, ``failed``, ``retried``, ``left``, ``lost``, ``in flight`` …; the verdict of a guardrail.
        detail: why it failed, or the text of a message; cut to 500 characters.
    """

    kind: str
    name: str = ""
    start: float | None = None
    seconds: float | None = None
    input_tokens: int | UnsetType | None = UNSET
    output_tokens: int | UnsetType | None = UNSET
    cost: float | UnsetType | None = UNSET
    may_cost: float | UnsetType | None = UNSET
    target: str | None = None
    outcome: str | None = None
    detail: str | None = None
    children: tuple[Node, ...] = ()


def tree(nodes: Sequence[Node], parents: Sequence[int | None]) -> tuple[Node, ...]:
    """The nodes, each below its parent, with the spending below them added up. The order stays.

    Args:
        nodes: parents come before their children.
        parents: the index of each node's parent. An index that is not before the node's own counts as None.
    """
    above: list[int | None] = []
    depths: list[int] = []
    for number, parent in enumerate(parents):
        inside = parent if parent is not None and 0 <= parent < number else None
        if inside is not None and depths[inside] >= _DEEPEST:
            inside = above[inside]
        above.append(inside)
        depths.append(0 if inside is None else depths[inside] + 1)
    below: list[list[Node]] = [[] for _ in nodes]
    top: list[Node] = []
    for number in reversed(range(len(nodes))):
        inside = above[number]
        (top if inside is None else below[inside]).append(_with(nodes[number], below[number][::-1]))
    return tuple(reversed(top))


def summed(figures: Iterable[Figure]) -> Any:
    """The sum of the figures: None if one is unknown, unset if there are none."""
    found = [figure for figure in figures if figure is not UNSET]
    if not found:
        return UNSET
    known = [figure for figure in found if isinstance(figure, int | float)]
    return sum(known) if len(known) == len(found) else None


def waited(causes: Mapping[str, float]) -> tuple[Node, ...]:
    """The waits as nodes, the longest first."""
    longest = sorted(causes.items(), key=lambda pair: -pair[1])
    return tuple(Node(kind="wait", name=cause, seconds=seconds) for cause, seconds in longest)


def shortened(text: str) -> str:
    """A text as a node keeps it: cut, and without anything that looks like a key."""
    # Cut twice: first to bound the time that redacting takes, then to the shown length, so that no half of a key is
    # left.
    shown = redact(text[: 2 * SHOWN])
    return shown if len(shown) <= SHOWN and len(text) <= 2 * SHOWN else f"{shown[: SHOWN - 1]}…"


def as_text(value: Any) -> str:
    """A JSON value, or the bytes of one, as text."""
    if isinstance(value, str):
        return value
    data = value if isinstance(value, bytes) else to_json(value)
    return data.decode(errors="replace")


def _with(node: Node, children: list[Node]) -> Node:
    if not children:
        return node
    whole = [node, *children]
    starts = [each.start for each in whole if each.start is not None]
    return replace(
        node,
        start=min(starts, default=None),
        input_tokens=summed(each.input_tokens for each in whole),
        output_tokens=summed(each.output_tokens for each in whole),
        cost=summed(each.cost for each in whole),
        children=(*node.children, *children),
    )
