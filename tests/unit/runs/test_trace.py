"""The tree of one item, built of values: no file, no clock."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from flatout.runs.story.node import SHOWN, Node, summed, tree
from flatout.runs.story.tree import trace
from flatout.store import History, Item, Noted, Tried
from flatout.values.route import Leg

END = 1_000.0


def item(**changes: Any) -> Item:
    values: dict[str, Any] = {
        "index": 6,
        "fingerprint": bytes(16),
        "prompt": b'{"prompt":"Why?","model":"m"}',
        "state": "answered",
        "answer": "Because.",
        "finish_reason": "stop",
        "input_tokens": 10,
        "output_tokens": 2,
        "cost": 0.25,
        "attempts": 2,
        "seconds": 4.0,
        "waits": b'{"backoff":1.0,"first_byte":2.5}',
        "finished_at": END,
    }
    return Item(**{**values, **changes})


def tried(attempt: int, at: float, outcome: str | None = "answered", place: str | None = None, **more: Any) -> Tried:
    return Tried(
        6, attempt, more.get("target", "o/m"), END + at, more.get("estimate"), place, outcome, more.get("after")
    )


def noted(place: str, kind: str, at: float, **value: Any) -> Noted:
    return Noted(bytes(16), kind, msgspec.json.encode(value), place, END + at)


def call(place: str, at: float, kind: str = "answered", **value: Any) -> Noted:
    usage = {"input_tokens": 5, "output_tokens": 1}
    return noted(place, kind, at, **{"call": {"prompt": "?"}, "usage": usage, "cost": 0.5, "seconds": 1.0, **value})


def built(*, live: bool = False, now: float = END + 1, **history: Any) -> Node:
    return trace(History(**{"index": 6, **history}), live=live, now=now)


def kinds(node: Node) -> list[str]:
    return [child.kind for child in node.children]


def only(node: Node, kind: str) -> Node:
    (found,) = (child for child in node.children if child.kind == kind)
    return found


def test_a_call_shows_its_attempts_waits_and_answer() -> None:
    """A user could not see why a row took so long."""
    row = built(item=item(), attempts=(tried(1, -3.9, "retried"), tried(2, -1.0, after="RateLimited: too fast")))
    assert (row.name, row.seconds, row.cost, row.input_tokens, row.outcome) == ("7", 4.0, 0.25, 10, "answered")
    assert kinds(row) == ["asked", "attempt", "attempt", "wait", "wait", "answer"]
    asked, first, second, longest, other, answer = row.children
    assert (asked.detail, answer.detail) == ("Why?", "Because.")
    assert (first.outcome, first.detail, round(first.start or 0, 3), first.seconds) == (
        "retried",
        "RateLimited: too fast",
        0.1,
        None,
    )
    assert (second.outcome, second.detail, second.start, second.seconds) == ("answered", None, 3.0, 1.0)
    assert [(wait.name, wait.seconds) for wait in (longest, other)] == [("first_byte", 2.5), ("backoff", 1.0)]


def test_what_a_model_said_is_shown_where_it_was_no_answer() -> None:
    """A user would read that an answer does not fit, and not what it is."""
    tree = built(item=item(state="failed", answer='{"na', error="Truncated", error_message="cut"))
    answer = only(tree, "answer")
    assert (answer.outcome, answer.detail) == ("unusable", '{"na')


def test_an_attempt_of_a_process_that_died_is_told_from_a_retry() -> None:
    """A crash would look like a failure of the provider, and its cost like nothing."""
    row = built(item=item(), attempts=(tried(1, -90.0, "lost", estimate=0.125), tried(1, -4.0)))
    first, second = (child for child in row.children if child.kind == "attempt")
    assert (first.outcome, first.detail, first.may_cost, first.start) == ("lost", "its process died", 0.125, -86.0)
    assert (second.outcome, second.may_cost) == ("answered", UNSET)
    assert row.may_cost == 0.125
    assert built(item=item(), attempts=(tried(1, -4.0),)).may_cost is UNSET
    assert built(attempts=(tried(1, -4.0, None),)).may_cost is None


def test_what_was_refused_used_no_tokens() -> None:
    """``unknown`` tokens would stand beside a cost of $0."""
    refused = {"state": "unsent", "error": "AuthenticationError", "input_tokens": None, "output_tokens": None}
    assert built(item=item(**refused, cost=0.0)).input_tokens is UNSET
    assert built(item=item(**refused, cost=None)).input_tokens is None


def test_an_unfinished_item_says_so() -> None:
    """A row under way would look broken, or a broken one as if it were under way."""
    attempts = (tried(1, -2.0, None),)
    running, broken = built(live=True, attempts=attempts), built(live=False, attempts=attempts)
    assert (running.outcome, running.seconds, only(running, "attempt").seconds) == ("in flight", 3.0, 3.0)
    assert (broken.outcome, broken.seconds, only(broken, "attempt").outcome) == ("broken off", None, "lost")


def test_a_function_shows_its_calls_and_steps() -> None:
    """Of a durable function a user would see the sum alone, and not which of its calls was slow or failed."""
    journal = (
        call("1", -2.0, text="one", model="m1", waits={"backoff": 0.5}),
        call("2", -0.5, "failed", error="Refused", message="no", within="step 1", usage={}, cost=None),
        noted("step 1", "done", -0.25, name="look", value={"value": {"a": 1}}),
        noted("step 2", "started", -0.1, name="send", once=True),
    )
    attempts = (
        tried(1, -2.9, place="1"),
        tried(1, -1.4, "failed", place="2"),
        tried(2, -0.9, "failed", place="2", after="ServerError: oh"),
        tried(1, -0.2, "lost", place="3"),
    )
    plain = {"input_tokens": None, "output_tokens": None, "answer": None, "waits": None, "output": b'{"x":1}'}
    row = built(item=item(prompt=b'{"item":"doc"}', **plain), journal=journal, attempts=attempts)
    assert kinds(row) == ["asked", "call", "step", "call", "step", "answer"]
    asked, first, look, unfinished, send, answer = row.children
    assert (asked.detail, answer.detail) == ("doc", '{"x":1}')
    assert (first.name, first.start, first.seconds, first.cost, kinds(first)) == (
        "m1",
        1.0,
        1.0,
        0.5,
        ["asked", "wait", "answer"],
    )
    (inner,) = look.children
    assert (look.name, look.detail, look.start, look.cost) == ("look", '{"a":1}', 2.5, None)
    assert (inner.outcome, inner.detail, kinds(inner)) == ("failed", "Refused: no", ["asked", "attempt", "attempt"])
    assert [child.detail for child in inner.children] == ["?", "ServerError: oh", None]
    assert (unfinished.outcome, kinds(unfinished)) == ("lost", ["attempt"])
    assert (send.name, send.outcome) == ("send", "unknown")
    assert row.input_tokens is None  # one of its calls has not told


OUTCOME: dict[str, Any] = {
    "answer": "sent",
    "verified": True,
    "usage": {"input_tokens": 15, "output_tokens": 3},
    "trace": [
        {"kind": "act", "name": "clerk", "seconds": 3.0},
        {
            "kind": "call",
            "name": "turn",
            "parent": 0,
            "attempts": 2,
            "input_tokens": 5,
            "output_tokens": 1,
            "cost": 0.5,
        },
        {"kind": "tool", "name": "send", "parent": 0, "started": 1.5, "error": "denied", "verdict": "denied"},
        {"kind": "verify", "name": "judge", "started": 3.0, "verdict": "pass"},
        {"kind": "call", "name": "verify", "parent": 3, "attempts": 1, "input_tokens": 10, "output_tokens": 2},
    ],
}
JOURNAL = (
    call("1", -2.0, text="well", model="m1"),
    call("2", -0.5, usage={"input_tokens": 10, "output_tokens": 2}),
)
ATTEMPTS = (
    tried(1, -3.0, "answered", place="1"),
    tried(2, -2.5, place="1", after="RateLimited: too fast"),
    tried(1, -1.0, place="2"),
)


def test_what_a_tool_returned_is_shown() -> None:
    """A user would see what a tool was asked, and not what it told the model."""
    step = {"kind": "tool", "name": "send", "detail": '{"to": 7}', "result": "sent"}
    row = built(item=item(output=json.dumps({"trace": [step]}).encode(), answer=None))
    tool = only(row, "tool")
    assert (tool.detail, only(tool, "result").detail) == ('{"to": 7}', "sent")


def test_an_agents_run_shows_its_stages() -> None:
    """Of an agent's run a user would see calls, and not which stage made them or what a guardrail said."""
    row = built(item=item(output=json.dumps(OUTCOME).encode(), answer=None), journal=JOURNAL, attempts=ATTEMPTS)
    assert kinds(row) == ["asked", "act", "verify", "wait", "wait", "answer"]
    act, verify = only(row, "act"), only(row, "verify")
    assert (act.cost, act.input_tokens, kinds(act)) == (0.5, 5, ["call", "tool"])
    assert (only(act, "tool").outcome, only(act, "tool").detail) == ("denied", "denied")
    assert (verify.outcome, verify.cost, verify.output_tokens) == ("pass", 0.0, 2)
    assert (only(row, "answer").outcome, only(row, "answer").detail, row.input_tokens) == ("verified", "sent", 15)
    turn = only(act, "call")
    assert (turn.name, kinds(turn)) == ("turn · m1", ["attempt", "attempt", "answer"])
    assert turn.children[0].detail == "RateLimited: too fast"


def test_journalled_calls_that_are_not_those_of_the_trace_are_left_out() -> None:
    """An agent's turn would be shown with the attempts of another call."""
    kept = item(output=json.dumps(OUTCOME).encode())
    for journal, name in (
        (JOURNAL[::-1], "turn · m1"),  # they are numbered by their beginnings, and noted at their ends
        (JOURNAL[:1], "turn"),
        ((call("1", -2.0, model="m1"), call("2", -1.0)), "turn"),
    ):
        row = built(item=kept, journal=journal, attempts=ATTEMPTS)
        assert only(only(row, "act"), "call").name == name


def test_a_failed_agents_trace_is_the_last_in_its_journal() -> None:
    """A failed run, the one that is looked at most, would show no stages."""
    older = noted("step 1", "done", -3.0, name="trace", value={"trace": []})
    newer = noted("step 2", "done", -0.1, name="trace", value=OUTCOME)
    failed = item(state="failed", answer=None, error="GuardrailTripped", error_message="no")
    row = built(item=failed, journal=(*JOURNAL, older, newer), attempts=ATTEMPTS)
    assert kinds(row)[:3] == ["asked", "act", "verify"]
    assert (row.outcome, row.detail) == ("failed", "GuardrailTripped: no")


def test_what_was_said_is_cut() -> None:
    """One long document would fill the screen."""
    row = built(item=item(prompt=json.dumps({"messages": [{"content": "x" * 9_999}]}).encode(), answer="y" * 9_999))
    assert len(only(row, "asked").detail or "") == len(only(row, "answer").detail or "") == SHOWN


anything = st.one_of(
    st.binary(max_size=30),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["call", "name", "value", "trace", "prompt", "messages", "content", "kind", "parent"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(anything, anything, anything, st.sampled_from(["answered", "failed", "done", "started", "odd"]), st.booleans())
def test_whatever_is_in_a_run_file_makes_a_tree(
    prompt: bytes, output: bytes, value: bytes, kind: str, live: bool
) -> None:
    """A run file of another version, or of somebody who means harm, would be a traceback."""
    journal = (Noted(bytes(16), kind, value, "step 1", END), Noted(bytes(16), kind, value, "ü²", END))
    kept = item(prompt=prompt or None, output=output, waits=value, tool_calls=prompt)
    row = built(item=kept, journal=journal, attempts=(tried(1, -1.0, place="9"),), live=live)
    assert msgspec.json.encode(row)


@given(st.lists(st.none() | st.integers(-3, 90), max_size=80))
def test_every_node_stands_in_the_tree_once(parents: list[int | None]) -> None:
    """Steps would vanish, or a circle of parents hang the command."""

    def count(nodes: tuple[Node, ...]) -> int:
        return sum(1 + count(node.children) for node in nodes)

    made = tree([Node(kind="step", cost=1.0) for _ in parents], parents)
    assert count(made) == len(parents)
    assert summed(node.cost for node in made) == (len(parents) if parents else UNSET)


def test_deep_nesting_is_flattened() -> None:
    """A chain of thousands of steps would overflow the stack."""
    (top,) = tree([Node(kind="step")] * 5_000, [None, *range(4_999)])
    depth = 0
    while top.children:
        top, depth = top.children[0], depth + 1
    assert depth == 40


def test_a_sum_is_unknown_when_a_part_is() -> None:
    """An unknown cost would be shown as nothing."""
    assert summed([1.0, UNSET, 2.0]) == 3.0
    assert summed([1.0, None]) is None
    assert summed([UNSET]) is UNSET


def test_no_node_shows_a_key() -> None:
    """A tool's exception that quotes a key, and the model that echoes it, would put it on the screen."""
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    journal = (
        call("1", -2.0, text=f"it said {key}", tool_calls=[{"id": "a", "name": "t", "arguments": f'{{"k":"{key}"}}'}]),
        call("2", -1.0, "failed", error="Refused", message=f"no {key}"),
        noted("step 1", "done", -0.25, name="look", value={"value": f"{'x' * (SHOWN - 10)} {key}"}),
    )
    failed = {"state": "failed", "error": "Refused", "error_message": f"bad {key}", "answer": f"as {key}"}
    asked = f'{{"prompt":"use {key}"}}'.encode()
    for row in (built(item=item(**failed, prompt=asked)), built(item=item(prompt=asked), journal=journal)):
        assert "sk-abc" not in msgspec.json.encode(row).decode()


def test_a_question_with_a_picture_shows_its_text_and_the_pictures_name() -> None:
    """Of a row with a picture a user would see three dots."""
    image = {"image": {"media_type": "image/png", "sha256": "0", "bytes": 5, "source": "cat.png"}}
    nameless = {"image": {"media_type": "image/png", "sha256": "0", "bytes": 5, "source": None}}
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = ["What is", image, nameless, {"type": "text", "text": "this?"}, url]
    row = built(item=item(prompt=msgspec.json.encode({"messages": [{"role": "user", "content": content}]})))
    assert only(row, "asked").detail == "What is [image cat.png] [image image/png] this? [image_url]"


def test_a_route_shows_its_targets_with_their_attempts() -> None:
    """A user could not see why a row left a target, nor what it cost there."""
    trail = (
        Leg("a/m", left="RateLimited", attempts=2, cost=0.0),
        Leg("b/m", attempts=1, cost=0.25, input_tokens=10, output_tokens=2),
    )
    tries = (
        tried(1, -9.0, "lost", target="b/m"),
        tried(1, -3.9, "retried", target="a/m"),
        tried(2, -2.0, "retried", target="a/m", after="RateLimited: too fast"),
        tried(3, -1.0, target="b/m", after="RateLimited: too fast"),
    )
    row = built(item=item(attempts=3, trail=msgspec.json.encode(trail)), attempts=tries)
    assert kinds(row) == ["asked", "attempt", "target", "target", "wait", "wait", "answer"]
    left, answered = (node for node in row.children if node.kind == "target")
    assert (left.name, left.outcome, left.detail, left.cost, left.input_tokens) == (
        *("a/m", "left", "RateLimited", 0.0),
        UNSET,
    )
    assert [node.name for node in left.children] == ["1", "2"]
    assert (answered.name, answered.outcome, answered.cost, answered.output_tokens) == ("b/m", "answered", 0.25, 2)
    assert [node.outcome for node in answered.children] == ["answered"]
    assert (row.cost, row.input_tokens) == (0.25, 10)


def test_the_slower_of_two_attempts_is_no_retry() -> None:
    """A hedge would look like a failure of the target that was only slower."""
    trail = (Leg("b/m", left="Hedged", attempts=1), Leg("a/m", attempts=1, cost=0.25))
    tries = (tried(1, -3.9, "retried", target="a/m"), tried(2, -2.0, target="b/m"))
    row = built(item=item(trail=msgspec.json.encode(trail)), attempts=tries)
    slower, answered = (node for node in row.children if node.kind == "target")
    assert [node.outcome for node in slower.children] == ["cancelled"]
    assert [(node.outcome, node.detail) for node in answered.children] == [("answered", None)]


def test_a_route_of_which_one_target_was_enough_looks_like_a_model() -> None:
    """Each row would have one more level that says nothing."""
    trail = msgspec.json.encode((Leg("o/m", attempts=1, cost=0.25),))
    assert kinds(built(item=item(trail=trail), attempts=(tried(1, -1.0),)))[:2] == ["asked", "attempt"]
    assert kinds(built(item=item(trail=b"{"), attempts=(tried(1, -1.0),)))[:2] == ["asked", "attempt"]
