"""How large schemas and tools are at most."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from flatout.policies.pacing.tokens import most_input
from flatout.providers import codec_for, registry
from flatout.values import Call, Target


class Item(BaseModel):
    """An item, of which there may be many."""

    name: str = Field(description="its name, as the catalogue has it " * 5)
    parts: list[Item] = []
    kind: Literal["a", "b", "c"] = "a"


def search(query: str, item: Item, pages: list[int] | None = None) -> str:
    """Search for something.

    Args:
        query: what to look for, in as many words as it takes.
        item: near which item.
    """
    return f"{query}{item}{pages}"


def found(query: str, item: Item) -> str:
    """Search among what was found.

    Args:
        query: what to look for.
        item: near which item.
    """
    return f"{query}{item}"


LONG = {"id": "1", "function": {"name": "f", "arguments": '{"a": "' + "x" * 900 + '"}'}}


class Box:
    __hash__ = None  # type: ignore[assignment]  # as of any class with an __eq__ of its own

    def look(self, deep: bool) -> str:
        """Look into it."""
        return str(deep)


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "gemini", "deepseek"])
@pytest.mark.parametrize(
    "options",
    [
        {"output": Item},
        {"output": list[Item]},
        {"output": Literal["spam", "ham"]},
        {"output": dict[str, Item] | None},
        {"output": {"type": "object", "properties": {"x": {"enum": ["a" * 50]}}}},
        {"tools": [search, found, Box().look]},
        {"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 1000}}]},
        {"messages": [{"role": "assistant", "tool_calls": [LONG]}]},
    ],
)  # fmt: skip
def test_the_bound_covers_what_is_sent(name: str, options: dict[str, Any]) -> None:
    """A budget would be overrun by schemas, tools and tool calls, which are billed as input like any text."""
    call = Call(**({"prompt": "x"} if "messages" not in options else {}), **options)
    codec = codec_for(Target(registry.find(name), "claude-sonnet-4-5"))
    envelope = len(codec.encode(Call("")).body)
    assert most_input(call) >= len(codec.encode(call).body) - envelope


@pytest.mark.parametrize("options", [{"tools": [object()]}, {"tools": 5}, {"output": object()}, {"output": "x"}])
def test_what_makes_no_schema_is_left_to_the_encoder(options: dict[str, Any]) -> None:
    """The bound would crash a call, where the encoder says what is wrong with it."""
    assert most_input(Call("x", **options)) > 0
