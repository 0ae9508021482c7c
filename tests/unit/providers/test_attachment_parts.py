"""Images and files in messages, as each wire format writes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from flatout import File, Image
from flatout.errors import InvalidRequest
from flatout.providers import codec_for, registry
from flatout.values import Call, Target
from flatout.values.secret import Secret

PNG = b"\x89PNG\r\n\x1a\n" + b"null" * 3
PDF = b"%PDF-1.7"
WAV = b"RIFF\x24\0\0\0WAVEfmt "
MODELS = {
    "openai": "gpt-5-mini", "openai-responses": "gpt-5-mini",
    "anthropic": "claude-opus-4-6", "gemini": "gemini-3-flash",
}  # fmt: skip


def body(name: str, *parts: Any, role: str = "user") -> dict[str, Any]:
    endpoint = msgspec.structs.replace(registry.find(name), api_key=Secret("key-0123456789"))
    call = Call(messages=[{"role": role, "content": list(parts)}])
    made: dict[str, Any] = json.loads(codec_for(Target(endpoint, MODELS[name])).encode(call).body)
    return made


def sent(name: str, *parts: Any) -> list[dict[str, Any]]:
    """The parts of the one message that a request holds."""
    made = body(name, *parts)
    message = made.get("messages", made.get("input", made.get("contents")))[0]
    found: list[dict[str, Any]] = message["parts"] if name == "gemini" else message["content"]
    return found


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def located(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{encoded(data)}"


def test_chat_completions() -> None:
    """A picture would not reach OpenAI, nor any of the many servers that speak as it does."""
    url = "https://example.org/a.png?x=1"
    assert sent("openai", "look", Image(PNG, detail="low"), Image(url), File(PDF), File(WAV)) == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": located(PNG, "image/png"), "detail": "low"}},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "file", "file": {"filename": "file.pdf", "file_data": located(PDF, "application/pdf")}},
        {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
    ]


def test_responses() -> None:
    """A picture would not reach OpenAI's Responses API."""
    report = "https://example.org/report.pdf"
    assert sent("openai-responses", "look", Image(PNG), Image("https://x.example/a"), File(PDF), File(report)) == [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": located(PNG, "image/png"), "detail": "auto"},
        {"type": "input_image", "image_url": "https://x.example/a", "detail": "auto"},
        {"type": "input_file", "filename": "file.pdf", "file_data": located(PDF, "application/pdf")},
        {"type": "input_file", "file_url": report},
    ]


def test_anthropic() -> None:
    """A picture would not reach Anthropic, or a text be refused for its type."""
    found = sent("anthropic", "look", Image(PNG), Image("https://x.example/a"), File(PDF), File(b"# hi", name="a.md"))
    assert found == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)},
            "title": "file.pdf",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "# hi"},
            "title": "a.md",
        },
    ]


def test_gemini() -> None:
    """A picture would not reach Gemini, or what stands at an address without the type that was stated."""
    url = "https://x.example/a"
    parts = ["look", Image(PNG), Image(url), Image(url, media_type="image/webp"), File(PDF), File(WAV)]
    assert sent("gemini", *parts, File(url, media_type="audio/mp3")) == [
        {"text": "look"},
        {"inlineData": {"mimeType": "image/png", "data": encoded(PNG)}},
        {"fileData": {"fileUri": url}},
        {"fileData": {"fileUri": url, "mimeType": "image/webp"}},
        {"inlineData": {"mimeType": "application/pdf", "data": encoded(PDF)}},
        {"inlineData": {"mimeType": "audio/wav", "data": encoded(WAV)}},
        {"fileData": {"fileUri": url, "mimeType": "audio/mpeg"}},
    ]


@pytest.mark.parametrize("name", ["anthropic", "openai-responses"])
def test_sounds_are_refused_where_there_are_none(name: str) -> None:
    """A recording would be uploaded for nothing."""
    for sound in (File(WAV), File("https://x.example/a", media_type="audio/wav")):
        with pytest.raises(InvalidRequest, match="takes no audio"):
            body(name, sound)


@pytest.mark.parametrize("name", MODELS)
def test_one_image_is_a_content_by_itself(name: str) -> None:
    """``content: Image(…)`` would be an error about JSON."""
    endpoint = registry.find(name)
    codec = codec_for(Target(endpoint, MODELS[name]))
    alone = codec.encode(Call(messages=[{"role": "user", "content": Image(PNG)}])).body
    assert alone == codec.encode(Call(messages=[{"role": "user", "content": [Image(PNG)]}])).body


@pytest.mark.parametrize("name", MODELS)
def test_attachments_are_encoded_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each retry of a large picture would read and encode it again."""
    image = Image(PNG)
    monkeypatch.setattr(base64, "b64encode", None)
    assert encoded_parts(name, image) == encoded_parts(name, image)


def encoded_parts(name: str, image: Image) -> list[dict[str, Any]]:
    before = dict(image.part["image_url"])
    found = sent(name, "look", image)
    assert image.part == {"type": "image_url", "image_url": before}  # nobody changed it
    return found
