"""OpenAI's embeddings, from the server's side, and the answers to them as replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from flatout import errors
from flatout.errors import CallError, InvalidRequest
from flatout.layer import Request, Response, StreamDecoder
from flatout.providers.failures.naming import error_of, request_id, unusable
from flatout.providers.formats.embeddings import Batch, embedding_codec
from flatout.values import Call, Reply, Target, Usage

from .inbound import Asked, Origin, openai_refusal


class InboundEmbeddings:
    """Reads requests for embeddings. Their answers are passed on as they are."""

    harmless = frozenset({"user"})

    def read(self, data: dict[str, Any]) -> Asked:
        """What a request's JSON asks. Its texts are the call's messages; tokens count as text of their length."""
        given = data.get("input")
        texts = [given] if isinstance(given, str) or _is_tokens(given) else given if isinstance(given, list) else []
        messages = [{"role": "user", "content": _as_text(each)} for each in texts]
        extra = {name: value for name, value in data.items() if name not in ("input", "model")}
        return Asked(str(data.get("model") or ""), streams=False, call={"messages": messages, "extra": extra})

    def write(self, reply: Reply, origin: Origin) -> bytes:
        """Refused: vectors are not kept.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest("embeddings are passed on as they are, and not written anew")

    def writer(self, origin: Origin) -> Any:
        """Refused: embeddings are not streamed.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest("embeddings are not streamed")

    def refusal(self, status: int, kind: str, message: str) -> bytes:
        """The body of an error."""
        return openai_refusal(status, kind, message)


def _is_tokens(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and isinstance(given[0], int)


def _as_text(value: Any) -> str:
    """A text, or one that has about as many tokens."""
    return value if isinstance(value, str) else "x " * (len(value) if isinstance(value, list) else 1)


class _Usage(Struct, frozen=True, gc=False):
    prompt_tokens: int | None = None


class _Answer(Struct, gc=False):
    data: msgspec.Raw
    usage: _Usage = _Usage()
    model: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingReplies:
    """Reads only the usage of answers with embeddings: their vectors are the program's own affair."""

    def __init__(self, target: Target) -> None:
        self._endpoint = target.endpoint
        self._codec = embedding_codec(target)

    def encode(self, call: Call, /, *, stream: bool = False) -> Request:
        """Refused: only targets of the same format are asked.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(f"{self._endpoint.name} has embeddings in another format")

    def carry(self, body: bytes, /, *, stream: bool) -> Request:
        """A request with a given body."""
        request = self._codec.encode(Batch((0,), ("x",)))
        return Request("POST", request.url, request.headers, body)

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The usage of an answer.

        Raises:
            CallError: it is none.
        """
        if not 200 <= response.status < 300:
            raise error_of(response.status, response.headers, response.body, self._endpoint)
        try:
            answer = _decode(response.body)
        except (ValueError, RecursionError):
            raise unusable(errors.ProtocolError, "sent no embeddings", response, self._endpoint) from None
        usage = Usage(input_tokens=answer.usage.prompt_tokens, output_tokens=0)
        return Reply(
            text="",
            usage=usage,
            model=answer.model,
            headers=response.headers,
            request_id=request_id(response.headers),
        )

    def instead(self, call: Call, refused: Request, error: CallError, /) -> Request | None:
        """None: nothing was added."""
        return None

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """Refused: embeddings are not streamed.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest("embeddings are not streamed")
