"""What makes two calls the same question: equal keys mean that a provider could not tell the requests apart.

The key is a digest of three things: where the request goes (the wire format, the address, the version of the API), the
request as it would be sent, and which of several samples it is. It does not depend on the account's key, on headers
that do not name a version, on whether the answer is streamed, or on the order in which a dict was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from flatout.errors import FlatoutError
from flatout.layer import Codec, Request
from flatout.text.redact import is_secret
from flatout.values import Call, Target

from .consent import EMBEDDED

DIGEST = 32
"""Bytes of a key. Two questions never share one by chance."""

_VERSIONS = ("-version", "-beta")
"""The ends of the names of headers that choose a version of the API (Anthropic, OpenAI)."""


class Questions:
    """The keys of the calls to one target.

    Args:
        target: where the calls go.
        codec: its wire format.
        others: the other targets that may answer, if the calls have a choice of several. An answer of theirs is none to
            a call to this target alone.
    """

    def __init__(self, target: Target, codec: Codec, others: Sequence[str] = ()) -> None:
        self._target = target
        self._others = others
        self._encode = codec.encode
        self._base: Any = None

    def key(self, call: Call) -> bytes | None:
        """The call's key: 32 bytes; None if the call cannot be sent, which the endpoint will then say."""
        try:
            request = self._encode(call)
            digest = (self._base or self._begin(request)).copy()
            digest.update(_canonical(request.body))
        except (FlatoutError, ValueError, RecursionError):
            return None
        if call.sample:  # the first sample is what a call without samples gets
            digest.update(b"\nsample %d" % call.sample)
        key: bytes = digest.digest()
        return key

    def _begin(self, request: Request) -> Any:
        """A digest of where all requests to this target go."""
        where: dict[str, Any] = {"api": self._target.endpoint.dialect, "address": self._address(request)}
        where |= _versions(request)
        if self._others:
            where["others"] = list(self._others)
        self._base = blake2b(msgspec.json.encode(where, order="deterministic") + b"\n", digest_size=DIGEST)
        return self._base

    def _address(self, request: Request) -> str:
        """The URL without keys. The embedded model has another port each time it starts."""
        url = urlsplit(request.url)
        embedded = self._target.endpoint.name == EMBEDDED and not self._target.model
        query = [pair for pair in parse_qsl(url.query) if not is_secret(pair[0])]
        return msgspec.json.encode([EMBEDDED if embedded else url.netloc, url.path, sorted(query)]).decode()


def _versions(request: Request) -> dict[str, str]:
    return {name.lower(): text for name, text in request.headers.items() if name.lower().endswith(_VERSIONS)}


def _number(text: str) -> float:
    """1.0 and 1 are the same parameter."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


_decoded = msgspec.json.Decoder(float_hook=_number).decode
_encoded = msgspec.json.Encoder(order="deterministic").encode


def _canonical(body: bytes) -> bytes:
    return _encoded(_decoded(body))
