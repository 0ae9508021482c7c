"""Embeddings: pack many texts into few requests, and return their vectors in the texts' order.

Providers limit the texts and the tokens of a request, and refuse the whole request if one text is too long or empty. So
a text that may be too long travels alone, where it can fail only itself.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from flatout import errors
from flatout.errors import CallError, ConfigError, InvalidRequest
from flatout.layer import Request, Response, StreamDecoder
from flatout.providers.failures.naming import error_in_answer, error_of, request_id, unusable
from flatout.providers.failures.problem import decode_json, is_problem
from flatout.providers.wire.answer import as_count, as_dict, as_dicts, as_text
from flatout.providers.wire.payload import encode_json, headers_of, split_address
from flatout.values import Call, Reply, Target, Usage
from flatout.values.secret import Secret


class Caps(Struct, frozen=True):
    """The limits of one request: texts, tokens in all, and tokens of one text. None means no limit."""

    texts: int
    tokens: int | None = None
    tokens_of_text: int | None = None


CAPS = {
    "openai": Caps(texts=2_048, tokens=300_000, tokens_of_text=8_192),
    "openai-responses": Caps(texts=2_048, tokens=300_000, tokens_of_text=8_192),
    "gemini": Caps(texts=100, tokens_of_text=2_048),
}
"""The limits by dialect, as the providers document them. Compatible servers differ; callers can give their own."""


class Embedding(Struct, frozen=True, kw_only=True):
    """One text's vector.

    Attributes:
        index: the text's position in the input, from 0.
        vector: single-precision floats, four bytes each; ``numpy.asarray`` takes them without a copy.
    """

    index: int
    vector: array[float]


class Embedded(Struct, frozen=True, kw_only=True):
    """The answer to one request: the embeddings in the texts' order, and their usage."""

    embeddings: tuple[Embedding, ...]
    usage: Usage = Usage()
    model: str | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = {}


class Batch(Struct, frozen=True):
    """The texts of one request, each with its position in the input."""

    indexes: tuple[int, ...]
    texts: tuple[str, ...]


class EmbeddingCodec(Protocol):
    """A provider's wire format for embeddings, for one target."""

    def encode(self, batch: Batch, /) -> Request:
        """The request for a batch.

        Raises:
            InvalidRequest: one of its texts cannot be embedded.
        """
        ...

    def decode(self, batch: Batch, response: Response, /) -> Embedded:
        """The embeddings in a response.

        Raises:
            CallError: the response does not hold one vector for each text.
        """
        ...


def tokens_at_most(text: str) -> float:
    """An upper estimate of a text's tokens: few texts have more than one token per two bytes."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return size / 2 + 1


def pack(texts: Iterable[str], caps: Caps, tokens: Callable[[str], float] = tokens_at_most) -> Iterator[Batch]:
    """Pack texts into batches within a provider's limits; lazily, with one batch in memory at a time.

    Args:
        texts: the texts, in the input's order.
        caps: the limits of one request.
        tokens: an upper estimate of a text's tokens. A text that is too long by it travels alone. So does an empty
            text, and a value that is not a string: the sender refuses those.
    """
    indexes: list[int] = []
    held: list[str] = []
    sum_of_tokens = 0.0
    text: Any
    for index, text in enumerate(texts):
        usable = isinstance(text, str) and text != ""
        size = tokens(text) if usable else 0.0
        if not usable or any(cap is not None and size > cap for cap in (caps.tokens_of_text, caps.tokens)):
            yield Batch((index,), (text,))
            continue
        if len(held) >= caps.texts or (held and caps.tokens is not None and sum_of_tokens + size > caps.tokens):
            yield Batch(tuple(indexes), tuple(held))
            indexes, held, sum_of_tokens = [], [], 0.0
        indexes.append(index)
        held.append(text)
        sum_of_tokens += size
    if held:
        yield Batch(tuple(indexes), tuple(held))


def embedding_codec(target: Target, *, dimensions: int | None = None) -> EmbeddingCodec:
    """The codec for a target's embeddings.

    Args:
        target: endpoint, key and model.
        dimensions: the length of the vectors, for models that can shorten them.

    Raises:
        ConfigError: the provider has no embeddings, or its endpoint cannot be used.
    """
    codec = _CODECS.get(target.endpoint.dialect)
    if codec is None:
        raise ConfigError(f"{target.endpoint.name} has no embeddings")
    return codec(target, dimensions)


class EmbeddingCalls:
    """Embeddings in the shape of calls (a `flatout.layer.Codec`), which are then paced, retried and billed like calls.

    Such a call's messages are the texts; the reply's ``output`` holds their vectors.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._codecs: dict[int | None, EmbeddingCodec] = {None: embedding_codec(target)}

    def encode(self, call: Call, /, *, stream: bool = False) -> Request:
        """The request for the texts. Embeddings are not streamed, so ``stream`` is ignored."""
        return self._codec(call).encode(_batch(call))

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The vectors, in the texts' order.

        Raises:
            CallError: the response does not hold one vector for each text.
        """
        embedded = self._codec(call).decode(_batch(call), response)
        return Reply(
            text="",
            output=tuple(embedding.vector for embedding in embedded.embeddings),
            usage=embedded.usage,
            model=embedded.model,
            request_id=embedded.request_id,
            headers=embedded.headers,
        )

    def instead(self, call: Call, refused: Request, error: CallError, /) -> Request | None:
        """None: a request for embeddings has no optional additions."""
        return None

    def stream_decoder(self, call: Call, headers: Mapping[str, str], /) -> StreamDecoder:
        """Refused: embeddings are not streamed."""
        raise InvalidRequest("embeddings are not streamed")

    def _codec(self, call: Call) -> EmbeddingCodec:
        dimensions = (call.extra or {}).get("dimensions")
        codec = self._codecs.get(dimensions)
        if codec is None:
            codec = self._codecs[dimensions] = embedding_codec(self._target, dimensions=dimensions)
        return codec


class Vectors(EmbeddingCalls):
    """The same for calls of one text, whose vector goes into a run file: as text, a fourth as long as numbers."""

    def decode(self, call: Call, response: Response, /) -> Reply:
        """The vector, as `vector_of` reads it.

        Raises:
            CallError: the response holds no vector.
        """
        reply = super().decode(call, response)
        [vector] = reply.output
        return replace(reply, output=base64.b64encode(_little(vector).tobytes()).decode())


def vector_of(text: str) -> array[float]:
    """The vector in a text of `Vectors`."""
    vector = array("f")
    vector.frombytes(base64.b64decode(text))
    return _little(vector)


def _little(vector: array[float]) -> array[float]:
    """The vector with its bytes in little-endian order, as OpenAI writes them; or back."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return vector


def _batch(call: Call) -> Batch:
    texts = tuple(message["content"] for message in call.messages or ())
    return Batch(tuple(range(len(texts))), texts)


class _Embeddings:
    """What both formats share: one address, one payload, and a check for one vector per text."""

    def __init__(self, target: Target, dimensions: int | None) -> None:
        self._endpoint = target.endpoint
        self._model = target.model
        self._dimensions = dimensions
        self._url = Secret(self._address())
        self._headers = headers_of(target.endpoint)

    def encode(self, batch: Batch, /) -> Request:
        if not all(batch.texts):
            raise InvalidRequest("an empty text has no embedding")
        return Request("POST", self._url.reveal(), self._headers, encode_json(self._payload(batch.texts)))

    def decode(self, batch: Batch, response: Response, /) -> Embedded:
        if not 200 <= response.status < 300:
            raise error_of(response.status, response.headers, response.body, self._endpoint)
        try:
            data = decode_json(response.body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise unusable(errors.ProtocolError, "sent no complete JSON object", response, self._endpoint)
        if is_problem(data):
            raise error_in_answer(data, response, self._endpoint, None)
        vectors = self._vectors(data, len(batch.texts))
        if vectors is None or len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
            text = f"did not send a complete vector for each of {len(batch.texts)} texts"
            raise unusable(errors.ProtocolError, text, response, self._endpoint)
        return Embedded(
            embeddings=tuple(
                Embedding(index=index, vector=vector) for index, vector in zip(batch.indexes, vectors, strict=True)
            ),
            usage=self._usage(data),
            model=as_text(data.get("model")),
            request_id=request_id(response.headers),
            headers=response.headers,
        )

    def _address(self) -> str:
        raise NotImplementedError

    def _payload(self, texts: tuple[str, ...]) -> dict[str, Any]:
        raise NotImplementedError

    def _vectors(self, data: dict[str, Any], count: int) -> list[array[float]] | None:
        """The vectors in the texts' order; None if any is missing or incomplete."""
        raise NotImplementedError

    def _usage(self, data: dict[str, Any]) -> Usage:
        raise NotImplementedError


class OpenAIEmbeddings(_Embeddings):
    """OpenAI's ``/embeddings``, and every compatible server."""

    def _address(self) -> str:
        base, query = split_address(self._endpoint)
        url = base.replace("{model}", quote(self._model, safe="")) + "/embeddings"
        return f"{url}?{query}" if query else url

    def _payload(self, texts: tuple[str, ...]) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": self._model, "input": texts}
        if self._dimensions is not None:
            payload["dimensions"] = self._dimensions
        if self._endpoint.limit_headers in ("openai", "azure"):
            payload["encoding_format"] = "base64"  # a quarter of the bytes, and a hundredth of the time to decode
        return payload

    def _vectors(self, data: dict[str, Any], count: int) -> list[array[float]] | None:
        placed: dict[int, array[float]] = {}
        for place, item in enumerate(as_dicts(data.get("data"))):
            index = as_count(item.get("index", place))
            vector = _vector(item.get("embedding"))
            if index is not None and vector is not None:
                placed[index] = vector
        return [placed[index] for index in range(count)] if placed.keys() == set(range(count)) else None

    def _usage(self, data: dict[str, Any]) -> Usage:
        return _usage(as_dict(data.get("usage")).get("prompt_tokens"))


class GeminiEmbeddings(_Embeddings):
    """Gemini's ``batchEmbedContents``, which answers in the order of the request."""

    def _address(self) -> str:
        base, query = split_address(self._endpoint)
        url = f"{base}/{quote(self._name())}:batchEmbedContents"
        return f"{url}?{query}" if query else url

    def _payload(self, texts: tuple[str, ...]) -> dict[str, Any]:
        more = {} if self._dimensions is None else {"outputDimensionality": self._dimensions}
        name = self._name()
        return {"requests": [{"model": name, "content": {"parts": [{"text": text}]}, **more} for text in texts]}

    def _vectors(self, data: dict[str, Any], count: int) -> list[array[float]] | None:
        found = [_vector(item.get("values")) for item in as_dicts(data.get("embeddings"))]
        whole = [vector for vector in found if vector is not None]
        return whole if len(whole) == len(found) == count else None

    def _usage(self, data: dict[str, Any]) -> Usage:
        return _usage(as_dict(data.get("usageMetadata")).get("promptTokenCount"))

    def _name(self) -> str:
        return self._model if "/" in self._model else f"models/{self._model}"


_CODECS: dict[str, Callable[[Target, int | None], EmbeddingCodec]] = {
    "openai": OpenAIEmbeddings,
    "openai-responses": OpenAIEmbeddings,
    "gemini": GeminiEmbeddings,
}


def _usage(tokens: Any) -> Usage:
    """The usage of embeddings, which have input tokens only."""
    return Usage(input_tokens=as_count(tokens), output_tokens=0)


def _vector(value: Any) -> array[float] | None:
    """A vector from a list of numbers, or from base64 of little-endian floats; None if it is neither."""
    vector = array("f")
    try:
        if isinstance(value, str):
            vector.frombytes(base64.b64decode(value, validate=True))
            if sys.byteorder == "big":
                vector.byteswap()
        elif isinstance(value, list):
            vector.fromlist(value)
        else:
            return None
    except (ValueError, TypeError, OverflowError):
        return None
    return vector
