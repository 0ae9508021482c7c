"""docs/providers.md and docs/embeddings.md say of the providers what is true of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from flatout.config.file import load
from flatout.errors import InvalidRequest
from flatout.layer import Request
from flatout.providers import codec_for, registry
from flatout.providers.formats.embeddings import CAPS
from flatout.values import Call, Endpoint, Target

DOCS = Path(__file__).parents[3] / "docs"
DIALECTS = {
    "chat completions": "openai",
    "OpenAI Responses": "openai-responses",
    "Anthropic Messages": "anthropic",
    "Gemini generateContent": "gemini",
}
VALUES = {
    "max_tokens": 5_000,
    "temperature": 0.5,
    "top_p": 0.5,
    "stop": ["END"],
    "seed": 1,
    "logprobs": True,
    "reasoning_effort": "low",
    "service_tier": "flex",
    "output": {"type": "object"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
}


def table(page: str, first: str) -> list[list[str]]:
    """The rows of the table on a page whose first heading is ``first``; without its rule."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |".replace("  ", " ")))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def structured(row: Endpoint) -> str:
    """How a provider is asked for a schema, in the page's words."""
    if row.dialect == "anthropic":
        return "strict or tool"
    if row.dialect == "gemini" or row.self_hosted:
        return "whole schema"
    return "prompt" if row.schema_mode == "json_object" else "strict"


def test_the_table_of_providers_is_the_registry() -> None:
    """A user would set the wrong variable, or never hear of a provider."""
    names = {dialect: words for words, dialect in DIALECTS.items()}
    expected = []
    for row in registry.BUILT_IN.values():
        key = "–" if row.key_env is None else f"`{row.key_env}`" + ("" if row.key_required else ", if any")
        headers = "yes" if row.limit_headers else "–"
        expected.append([f"`{row.name}`", key, names[row.dialect], headers, structured(row)])
    assert table("providers.md", "provider")[1:-1] == expected


def encoded(dialect: str, name: str) -> Request:
    endpoint = next(row for row in registry.BUILT_IN.values() if row.dialect == dialect)
    call = Call("x", model="m", **{name: VALUES[name]}) if name in VALUES else Call("x")
    if name == "tool_choice":
        call = msgspec.structs.replace(call, tools=VALUES["tools"])
    return codec_for(Target(endpoint, "m")).encode(call, stream=name == "stream")


@pytest.mark.parametrize("row", table("providers.md", "parameter of a Call")[1:], ids=lambda row: row[0].strip("`"))
def test_each_format_takes_what_the_page_says(row: list[str]) -> None:
    """A call would be refused for what the page promises."""
    name = row[0].strip("`")
    heads = table("providers.md", "parameter of a Call")[0]
    for head, said in zip(heads[1:], row[1:], strict=True):
        dialect = DIALECTS[head]
        if name == "embed":
            assert said == ("yes" if dialect in CAPS else "refused")
        elif said == "refused":
            with pytest.raises(InvalidRequest):
                encoded(dialect, name)
        else:
            assert said == "yes"
            assert encoded(dialect, name) != encoded(dialect, "nothing")


def test_the_page_names_every_parameter() -> None:
    """A parameter would exist of which nobody knows where it is taken."""
    named = {row[0].strip("`") for row in table("providers.md", "parameter of a Call")[1:]}
    assert named == {*VALUES, "stream", "embed"}


def test_the_flatout_toml_of_the_page_is_one() -> None:
    """Somebody who copies it would get an error about it."""
    page = (DOCS / "providers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    config = load(tomllib.loads(block))
    assert config.limits_for("mine", "llama").concurrency == 32
    assert config.prices["mine/llama"].output == 0.40


def test_the_caps_of_embeddings_are_those_in_use() -> None:
    """A user would reckon with more requests than are sent, or fewer."""
    rows = {row[0].partition(" ")[0]: row[1:] for row in table("embeddings.md", "")[1:]}
    for dialect in ("openai", "gemini"):
        caps = CAPS[dialect]
        numbers = (caps.texts, caps.tokens, caps.tokens_of_text)
        assert rows[dialect] == ["–" if number is None else f"{number:,}" for number in numbers]
    assert CAPS["openai"] == CAPS["openai-responses"]
