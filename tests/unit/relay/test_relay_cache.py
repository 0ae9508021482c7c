"""What another program's equal question is answered with, and what is never kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatout import Client
from flatout.layer import Response

from .scripted import (
    ANTHROPIC,
    ASKED,
    CLAUDE,
    OPENAI,
    RESPONSE,
    Server,
    answered,
    call,
    chat,
    chunks,
    events,
    message,
    run,
)


def twice(server: Server, path: Path, first: Any, second: Any) -> list[Response]:
    async def main(client: Client) -> list[Response]:
        return [await answered(client, first), await answered(client, second)]

    got: list[Response] = run(server, main, cache=path / "cache")
    return got


@pytest.mark.parametrize(
    "answer",
    [
        chat({"content": None, "refusal": "No."}),
        chat({"content": ""}),
        chat({"content": "So far"}, "content_filter"),
        chat({"content": "So far"}, "length"),
        chunks({"content": "So far"}, finish="content_filter"),
        chunks({"refusal": "No."}),
    ],
)
def test_what_the_model_might_do_better_is_not_kept(tmp_path: Path, answer: Any):
    """A program would get one refusal, or one cut-off answer, for ever."""
    server = Server(answer)
    data = {**ASKED, "stream": True} if isinstance(answer, list) else ASKED
    twice(server, tmp_path, call("openai", data, OPENAI), call("openai", data, OPENAI))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("openai", {"n": 2}),
        ("openai", {"logprobs": True}),
        ("openai", {"functions": [{"name": "f"}]}),
        ("openai-responses", {"top_logprobs": 3}),
        ("openai-responses", {"include": ["message.output_text.logprobs"]}),
    ],
)
def test_answers_of_which_a_part_would_be_lost_are_not_kept(tmp_path: Path, dialect: str, more: dict[str, Any]):
    """A program would get less the second time than the first."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ham"}]}
    response = Response(200, {}, json.dumps({"id": "r", "status": "completed", "output": [said]}).encode())
    server = Server(chat({"content": "ham"}) if dialect == "openai" else response)
    data = {**(ASKED if dialect == "openai" else RESPONSE), **more}
    twice(server, tmp_path, call(dialect, data, OPENAI), call(dialect, data, OPENAI))
    assert len(server.requests) == 2


def test_a_kept_turn_keeps_its_thoughts_as_it_streams(tmp_path: Path):
    """Anthropic would refuse the tool's result, because the turn before it had lost its thinking."""
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}},
    ]
    server = Server(message(blocks, "tool_use"))
    first = call("anthropic", CLAUDE, ANTHROPIC)
    _, second = twice(server, tmp_path, first, call("anthropic", {**CLAUDE, "stream": True}, ANTHROPIC))
    assert len(server.requests) == 1
    got: list[dict[str, Any]] = []
    for each in events(second.body):
        if each["type"] == "content_block_start":
            got.append(each["content_block"])
        elif each["type"] == "content_block_delta":
            delta = each["delta"]
            for name in ("text", "thinking", "signature"):
                got[-1][name] = got[-1].get(name, "") + delta[name] if name in delta else got[-1].get(name)
            if "partial_json" in delta:
                got[-1]["input"] = json.loads(delta["partial_json"])
    assert [{name: value for name, value in block.items() if value is not None} for block in got] == blocks


def test_kept_answers_have_ids_and_times(tmp_path: Path):
    """A program that keeps turns by their ids would lose all but the last."""
    server = Server(chat({"content": "ham"}))
    asked = [call("openai", ASKED, OPENAI) for _ in range(3)]

    async def main(client: Client) -> list[Any]:
        return [json.loads((await answered(client, each)).body) for each in asked]

    _, second, third = run(server, main, cache=tmp_path / "cache")
    assert second["id"] != third["id"]
    assert second["created"] > 1_500_000_000
