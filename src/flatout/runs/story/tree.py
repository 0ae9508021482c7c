"""Builds the tree of one item: its events in order, their times and their costs. Pure.

Everything comes from the run file. So the tree can be shown during the run, after a crash or a year later, without any
collector. A run file may contain anything: unexpected data is shown as it is and breaks nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from flatout.durable.kept_call import KeptCall
from flatout.durable.records import is_cached, trail_of
from flatout.durable.steps import KINDS, KeptStep
from flatout.journey import SLOWER
from flatout.store import History, Item, Noted, Tried
from flatout.values import ToolCall
from flatout.values.route import Leg

from .agent import AgentTrace, agent_steps, is_trace, trace_of
from .node import Node, as_text, shortened, summed, tree, waited

_CACHED = "from the cache"


def trace(history: History, *, live: bool, now: float) -> Node:
    """The tree of an item.

    Args:
        history: the item's records in the run file.
        live: whether a process is writing the run. Without an end, an event is under way if so, and broken off if not.
        now: Unix time.
    """
    return _Tracer(history, live, now).row()


class _Tracer:
    """Builds the tree of one item. Times count from the item's start in the process that finished it."""

    def __init__(self, history: History, live: bool, now: float) -> None:
        self._history = history
        self._live = live
        self._now = now
        self._tried: defaultdict[str | None, list[Tried]] = defaultdict(list)
        for tried in history.attempts:
            self._tried[tried.place].append(tried)
        self._zero = _beginning(history, now)

    def row(self) -> Node:
        item, agent = self._history.item, self._agent()
        if agent is not None:
            middle = self._agent_run(agent)
        elif self._history.journal or any(place is not None for place in self._tried):
            middle = self._function()
        else:
            middle = self._route(self._attempts(None, _end(item)))
        tokens = _tokens(item, agent, middle)
        return Node(
            kind="row",
            name=str(self._history.index + 1),
            start=0.0,
            seconds=item.seconds if item is not None else max(0.0, self._now - self._zero) if self._live else None,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cost=item.cost if item is not None else summed(node.cost for node in middle),
            may_cost=summed(one.estimated_cost for one in self._history.attempts if self._is_lost(one)),
            outcome=self._state(),
            detail=_error(item) or (_CACHED if item is not None and is_cached(item) else None),
            children=(*_asked(item), *middle, *_waits(item), *_answer(item, agent)),
        )

    def _state(self) -> str:
        if self._history.item is not None:
            return self._history.item.state
        if not self._live:
            return "broken off"
        return "in flight" if any(tried.outcome is None for tried in self._history.attempts) else "not finished"

    def _is_lost(self, tried: Tried) -> bool:
        """Whether the attempt's end is unknown."""
        return tried.outcome == "lost" or (tried.outcome is None and not self._live)

    def _attempts(self, place: str | None, end: float | None) -> tuple[Node, ...]:
        tried = self._tried.get(place, [])
        return tuple(self._attempt(one, after, end) for one, after in zip_longest(tried, tried[1:]))

    def _route(self, attempts: tuple[Node, ...]) -> tuple[Node, ...]:
        """The attempts below the targets of their route, if there were several. Earlier processes' stand before."""
        item = self._history.item
        trail = _trail(item)
        if item is None or len(trail) < 2:
            return attempts
        rest, targets = list(attempts), deque[Node]()
        for leg in reversed(trail):
            ends = not targets and item.state == "answered"
            own = _last(rest, leg)
            if own and (ends or leg.left == SLOWER):
                own[-1] = replace(own[-1], outcome="answered" if ends else "cancelled", detail=None)
            targets.appendleft(_target(leg, "answered" if ends else "left", own))
        return (*rest, *targets)

    def _attempt(self, tried: Tried, following: Tried | None, end: float | None) -> Node:
        """One attempt. Numbers start anew in each process, which distinguishes a retry from a resumed run."""
        seconds, detail = None, None
        if following is not None and following.attempt > tried.attempt:
            outcome, detail = "retried", shortened(following.after or "") or None
        else:
            outcome = tried.outcome or ("in flight" if self._live else "lost")
            if outcome == "in flight":
                seconds = max(0.0, self._now - tried.started_at)
            elif outcome == "lost":
                detail = "its process died"
            elif following is None:
                seconds = None if end is None else max(0.0, end - tried.started_at)
        return Node(
            kind="attempt",
            name=str(tried.attempt),
            start=tried.started_at - self._zero,
            seconds=seconds,
            may_cost=tried.estimated_cost if outcome == "lost" else UNSET,
            target=tried.target,
            outcome=outcome,
            detail=detail,
        )

    # A function's calls and steps

    def _function(self) -> tuple[Node, ...]:
        """The calls and steps of a durable function, each inside the step that made it."""
        steps = sorted((noted for noted in self._history.journal if noted.kind in KINDS), key=_number)
        nodes: list[Node] = []
        within: list[str] = []
        at: dict[str, int] = {}
        for noted in steps:
            if (kept := _decoded(noted, KeptStep)) is None or not is_trace(kept):
                at[noted.place] = len(nodes)
                nodes.append(self._step(noted, kept))
                within.append(kept.within if kept is not None else "")
        for node, inside in self._calls():
            nodes.append(node)
            within.append(inside)
        return tuple(sorted(tree(nodes, [at.get(place) for place in within]), key=lambda node: node.start or 0.0))

    def _calls(self) -> Iterable[tuple[Node, str]]:
        """The calls, each with the step that made it. A call without an entry was not finished, or counts as unsent."""
        places = {noted.place for noted in self._history.journal}
        for noted in self._history.journal:
            if noted.kind not in KINDS:
                kept = _decoded(noted, KeptCall)
                yield self._call(noted, kept), kept.within if kept is not None else ""
        for place, tried in self._tried.items():
            if place not in places:
                attempts = self._attempts(place, None)
                start, outcome = tried[0].started_at - self._zero, attempts[-1].outcome
                yield Node(kind="call", name=place or "", start=start, outcome=outcome, children=attempts), ""

    def _call(self, noted: Noted, kept: KeptCall | None) -> Node:
        if kept is None:
            return Node(kind="call", name=noted.place, outcome=noted.kind, detail=shortened(as_text(noted.value)))
        error = shortened(f"{kept.error}: {kept.message}") if kept.error is not None else None
        tried = self._tried.get(noted.place)
        start = noted.at - kept.seconds if kept.seconds is not None else tried[0].started_at if tried else None
        return Node(
            kind="call",
            name=kept.model or (tried[-1].target if tried else noted.place),
            start=None if start is None else start - self._zero,
            seconds=None if start is None else max(0.0, noted.at - start),
            input_tokens=kept.usage.input_tokens,
            output_tokens=kept.usage.output_tokens,
            cost=kept.cost,
            outcome=noted.kind,
            detail=error or (_CACHED if _was_free(noted, kept) else _unless_usual(kept.finish_reason)),
            children=(
                Node(kind="asked", detail=shortened(_question(bytes(kept.call)))),
                *self._worth_telling(self._attempts(noted.place, noted.at)),
                *waited(kept.waits),
                *_wanted(kept.tool_calls),
                *((Node(kind="answer", detail=shortened(kept.text)),) if kept.text else ()),
            ),
        )

    def _step(self, noted: Noted, kept: KeptStep | None) -> Node:
        if kept is None:
            return Node(kind="step", name=noted.place, outcome=noted.kind, detail=shortened(as_text(noted.value)))
        end = noted.at - self._zero
        if noted.kind == "done":
            return Node(kind="step", name=kept.name, start=end, outcome="done", detail=_result(bytes(kept.value)))
        outcome = "in flight" if self._live else "unknown"
        detail = None if self._live else "it began, and it is unknown whether it took effect"
        return Node(kind="step", name=kept.name, start=end, outcome=outcome, detail=detail)

    @staticmethod
    def _worth_telling(attempts: tuple[Node, ...]) -> tuple[Node, ...]:
        """The attempts, unless there is just one and it was answered: the call itself says that."""
        return () if len(attempts) == 1 and attempts[0].outcome == "answered" else attempts

    # An agent's run

    def _agent(self) -> AgentTrace | None:
        """An agent's trace: the item's output. For a failed run, the last trace in its journal."""
        item = self._history.item
        if item is not None and item.output is not None:
            return trace_of(item.output)
        kept = (_decoded(noted, KeptStep) for noted in reversed(self._history.journal) if noted.kind == "done")
        found = next((each for each in kept if each is not None and is_trace(each)), None)
        return trace_of(bytes(found.value)) if found is not None and item is not None else None

    def _agent_run(self, agent: AgentTrace) -> tuple[Node, ...]:
        nodes = agent_steps(agent)
        asked = [number for number, node in enumerate(nodes) if node.kind == "call"]
        calls = sorted((noted for noted in self._history.journal if noted.kind not in KINDS), key=_number)
        found = [(noted, kept) for noted in calls if (kept := _decoded(noted, KeptCall)) is not None]
        same = all(
            (nodes[number].input_tokens, nodes[number].output_tokens)
            == (kept.usage.input_tokens, kept.usage.output_tokens)
            for number, (_, kept) in zip(asked, found, strict=False)
        )
        if same and len(asked) == len(found):  # a trace does not name its calls, but both lists have the same order
            for number, (noted, kept) in zip(asked, found, strict=True):
                nodes[number] = self._with_journal(nodes[number], noted, kept)
        return tree(nodes, [step.parent for step in agent.trace])

    def _with_journal(self, node: Node, noted: Noted, kept: KeptCall) -> Node:
        attempts = self._worth_telling(self._attempts(noted.place, noted.at))
        answer = (Node(kind="answer", detail=shortened(kept.text)),) if kept.text else ()
        name = f"{node.name} · {kept.model}" if kept.model else node.name
        return replace(node, name=name, children=(*attempts, *node.children, *answer))


def _was_free(noted: Noted, kept: KeptCall) -> bool:
    """Whether a call's answer came from a cache."""
    return noted.kind == "answered" and kept.attempts == 0 and kept.cost == 0


def _beginning(history: History, now: float) -> float:
    item = history.item
    if item is not None and item.seconds is not None:
        return item.finished_at - item.seconds
    times = [tried.started_at for tried in history.attempts] + [noted.at for noted in history.journal]
    return min(times, default=item.finished_at if item is not None else now)


def _end(item: Item | None) -> float | None:
    return item.finished_at if item is not None else None


def _trail(item: Item | None) -> tuple[Leg, ...]:
    try:
        return trail_of(item) if item is not None else ()
    except msgspec.MsgspecError:
        return ()


def _last(attempts: list[Node], leg: Leg) -> list[Node]:
    """Take the last attempts at a leg's target, as many as it had."""
    places = [place for place, node in enumerate(attempts) if node.target == leg.target]
    return [attempts.pop(place) for place in reversed(places[-leg.attempts :] if leg.attempts else ())][::-1]


def _target(leg: Leg, outcome: str, attempts: list[Node]) -> Node:
    counted = leg.input_tokens is not None or leg.output_tokens is not None
    return Node(
        kind="target",
        name=leg.target,
        start=attempts[0].start if attempts else None,
        input_tokens=leg.input_tokens if counted else UNSET,
        output_tokens=leg.output_tokens if counted else UNSET,
        cost=leg.cost,
        outcome=outcome,
        detail=leg.left or None,
        children=tuple(attempts),
    )


def _error(item: Item | None) -> str | None:
    if item is None or item.error is None:
        return None
    return shortened(f"{item.error}: {item.error_message}" if item.error_message else item.error)


def _tokens(item: Item | None, agent: AgentTrace | None, nodes: Iterable[Node]) -> tuple[Any, Any]:
    if agent is not None:
        return agent.usage.input_tokens, agent.usage.output_tokens
    if item is not None and (item.input_tokens is not None or item.output_tokens is not None):
        return item.input_tokens, item.output_tokens
    nodes = list(nodes)
    found = summed(node.input_tokens for node in nodes), summed(node.output_tokens for node in nodes)
    unknown = item is not None and item.attempts and item.cost != 0  # an item that cost nothing used no tokens
    return (None, None) if found[0] is UNSET and unknown else found


def _asked(item: Item | None) -> tuple[Node, ...]:
    if item is None or (kept := item.prompt or item.input) is None:
        return ()
    return (Node(kind="asked", detail=shortened(_question(kept))),)


def _answer(item: Item | None, agent: AgentTrace | None) -> tuple[Node, ...]:
    if item is None:
        return ()
    text = item.answer or (as_text(item.output) if item.output is not None else "")
    outcome = "unusable" if item.state != "answered" else "repaired" if item.repaired else None
    if agent is not None:
        text = as_text(agent.answer) if agent.answer is not None else ""
        outcome = None if agent.verified is None else "verified" if agent.verified else "not verified"
    try:
        asked = msgspec.json.decode(item.tool_calls or b"[]", type=tuple[ToolCall, ...])
    except msgspec.MsgspecError:
        asked = ()
    node = Node(kind="answer", name=_unless_usual(item.finish_reason) or "", outcome=outcome, detail=shortened(text))
    wanted = (Node(kind="next action", name=shortened(agent.next_action)),) if agent and agent.next_action else ()
    return (*_wanted(asked), *((node,) if text or node.name else ()), *wanted)


def _wanted(asked: Iterable[ToolCall]) -> Iterable[Node]:
    return [Node(kind="tool call", name=each.name, detail=shortened(each.arguments)) for each in asked]


def _waits(item: Item | None) -> tuple[Node, ...]:
    try:
        waits = msgspec.json.decode(item.waits, type=dict[str, float]) if item is not None and item.waits else {}
    except msgspec.MsgspecError:
        waits = {}
    return waited(waits)


def _question(kept: bytes) -> str:
    """The question: the prompt or the last message; for a durable function, the item itself."""
    try:
        made = msgspec.json.decode(kept)
    except msgspec.MsgspecError:
        return as_text(kept)
    if not isinstance(made, dict):
        return as_text(made)
    messages = made.get("messages")
    text = made.get("prompt")
    if text is None and isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        text = messages[-1].get("content")
    if isinstance(text, list):
        text = " ".join(map(_part, text))
    return text if isinstance(text, str) else as_text(made["item"] if set(made) == {"item"} else made)


def _part(part: Any) -> str:
    """A part of a message: its text, or the name of an attachment; the type of an attachment without a name."""
    if not isinstance(part, dict):
        return as_text(part)
    if isinstance(text := part.get("text"), str):
        return text
    kind, about = next(iter(part.items()), ("", None))
    about = about if isinstance(about, dict) else {}
    told = about.get("source") or about.get("media_type")
    return f"[{part.get('type', kind)}{f' {told}' if told else ''}]"


def _result(value: bytes) -> str:
    """The result of a step. An agent's results are wrapped together with what they spent."""
    try:
        found = msgspec.json.decode(value)
    except msgspec.MsgspecError:
        found = value
    return shortened(as_text(found["value"] if isinstance(found, dict) and "value" in found else found))


def _unless_usual(finish_reason: str | None) -> str | None:
    return None if finish_reason in (None, "stop", "tool_calls") else finish_reason


def _number(noted: Noted) -> int:
    digits = noted.place.rpartition(" ")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


def _decoded(noted: Noted, kind: Any) -> Any:
    """A journal entry; None if it is of another kind."""
    try:
        return msgspec.json.decode(noted.value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
