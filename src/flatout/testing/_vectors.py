"""Embeddings of a simulated provider: the requests and answers at ``/embeddings``.

A text's vector follows from the text alone, so it is the same in every run, in every batch and in both encodings.
"""

from __future__ import annotations

import base64
import sys
from array import array
from hashlib import sha256, shake_128
from math import hypot
from typing import Literal

import msgspec
from msgspec import Struct

from . import _answers as answers
from ._answers import Rejection, count_tokens
from ._settings import ProviderSettings

MOST_TEXTS = 2048
MOST_DIMENSIONS = 8192

_encode = msgspec.json.Encoder().encode


class EmbeddingRequest(Struct):
    """A request for the vectors of some texts."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


_decode = msgspec.json.Decoder(EmbeddingRequest).decode


class Texts(Struct, gc=False):
    """A readable embedding request."""

    request: EmbeddingRequest
    texts: list[str]
    sizes: list[int]
    mark: bytes
    prompt_tokens: int

    @classmethod
    def of(cls, body: bytes) -> Texts:
        request = _decode(body)
        texts = [request.input] if isinstance(request.input, str) else request.input
        sizes = [count_tokens(text) for text in texts]
        return cls(request, texts, sizes, sha256(b"".join(map(_mark, texts))).digest(), sum(sizes))

    def cost(self, *, reserve: bool) -> int:
        """Tokens that are charged on admission."""
        return self.prompt_tokens

    def marks(self) -> list[bytes]:
        """The marks that decide whether a text is refused every time."""
        return [_mark(text) for text in self.texts]

    def problem(self, settings: ProviderSettings) -> Rejection | None:
        """Why the whole request gets a 400; None if it does not."""
        longest = settings.context_tokens
        if not 0 < len(self.texts) <= MOST_TEXTS:
            return answers.bad_request(f"input takes from 1 to {MOST_TEXTS} texts, not {len(self.texts)}")
        if self.request.dimensions is not None and not 0 < self.request.dimensions <= MOST_DIMENSIONS:
            return answers.bad_request(f"dimensions is a number from 1 to {MOST_DIMENSIONS}")
        for place, text in enumerate(self.texts):
            if not text:
                return answers.bad_request(f"input[{place}] is empty")
            if longest is not None and self.sizes[place] > longest:
                return answers.too_long(longest, self.sizes[place], f"input[{place}] is")
        return None

    def answer(self, settings: ProviderSettings, *, empty: bool) -> bytes:
        """The body of the answer; ``empty`` leaves the vectors out."""
        dimensions = self.request.dimensions or settings.embedding_dimensions
        rows = [
            {"object": "embedding", "index": index, "embedding": self._written(vector_of(text, dimensions))}
            for index, text in enumerate(() if empty else self.texts)
        ]
        usage = {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens}
        return _encode({"object": "list", "data": rows, "model": self.request.model, "usage": usage})

    def _written(self, vector: array[float]) -> str | list[float]:
        if self.request.encoding_format == "float":
            return vector.tolist()
        if sys.byteorder == "big":
            vector.byteswap()
        return base64.b64encode(vector).decode()


def vector_of(text: str, dimensions: int) -> array[float]:
    """A text's vector, of length 1 and single precision. The same text always has the same vector."""
    noise = array("h")
    noise.frombytes(shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions))
    if sys.byteorder == "big":
        noise.byteswap()
    length = hypot(*noise) or 1.0
    return array("f", [number / length for number in noise])


def _mark(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
