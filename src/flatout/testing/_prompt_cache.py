"""The prompt cache of a simulated provider: which beginning of a prompt is read, which is written, and from when.

Only equal beginnings match, byte for byte, within one organisation (one key) and one model. What a request writes can
be read once its answer has begun, and then until nobody has used it for a while. Anthropic and OpenAI differ in where a
beginning may end: at a marker, or after any 128 tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from ._settings import ProviderSettings

STEP = 128
"""Tokens by which the matches of a ``prefix`` cache grow (OpenAI's models before GPT-5.6)."""

CHARACTERS = 4.4
"""Characters of a token, as `flatout.testing._answers.count_tokens` counts English."""

LOOKBACK = 20
"""Blocks before a marker at which an earlier entry may end (Anthropic)."""

MOST_WRITTEN = 4
"""The most markers of a request that are written."""

ROUTED = 256
"""Tokens of a prompt that decide which machine serves it, together with ``prompt_cache_key`` (OpenAI)."""

MINUTE = 60.0

Scope = tuple[str, ...]
Key = tuple[Scope, bytes]


class Piece(NamedTuple):
    """A block of a prompt as the model reads it, its tokens, and whether a marker stands at its end."""

    text: str
    tokens: int
    marked: bool = False


class CacheUse(NamedTuple):
    """What a request takes from the cache and puts into it.

    Attributes:
        read, written: tokens.
        writes: the entries that can be read once the answer has begun.
    """

    read: int = 0
    written: int = 0
    writes: tuple[Key, ...] = ()


class PromptCache:
    """The entries of all organisations."""

    def __init__(self) -> None:
        self._expires: dict[Key, float] = {}
        self._sent: dict[Scope, deque[float]] = {}

    def marked(self, now: float, settings: ProviderSettings, scope: Scope, pieces: Sequence[Piece]) -> CacheUse:
        """Use the cache up to the markers."""
        ends = list(_ends(pieces))
        marks = [place for place, piece in enumerate(pieces) if piece.marked]
        able = [place for place in marks if ends[place][1] >= settings.prompt_cache_least]
        read = 0
        for place in able:
            for earlier in range(place, max(-1, place - LOOKBACK), -1):
                if ends[earlier][1] > read and self._read(now, settings, (scope, ends[earlier][0])):
                    read = ends[earlier][1]
        writes = tuple((scope, ends[place][0]) for place in able[-MOST_WRITTEN:])
        written = max(0, ends[able[-1]][1] - read) if able else 0
        return CacheUse(read, written, writes)

    def unmarked(self, now: float, settings: ProviderSettings, scope: Scope, pieces: Sequence[Piece]) -> CacheUse:
        """Use the cache as far as the prompt's beginning is known, whoever wrote it. Writing costs nothing."""
        text = "".join(piece.text for piece in pieces)
        steps = sum(piece.tokens for piece in pieces) // STEP
        read, writes, digest = 0, [], blake2b(digest_size=16)
        for step in range(1, steps + 1):
            digest.update(text[_at(step - 1) : _at(step)].encode("utf-8", "surrogatepass"))
            if step * STEP >= settings.prompt_cache_least:
                key = (scope, digest.digest())
                writes.append(key)
                if self._read(now, settings, key):
                    read = step * STEP
        return CacheUse(read, 0, tuple(writes))

    def machine(self, now: float, settings: ProviderSettings, scope: Scope) -> Scope:
        """The machine that serves a request: the first one that has not had its requests of this minute yet."""
        most = settings.prompt_cache_rpm
        if most is None:
            return scope
        sent = self._sent.setdefault(scope, deque())
        while sent and sent[0] <= now - MINUTE:
            sent.popleft()
        sent.append(now)
        return (*scope, str(int((len(sent) - 1) // most)))

    def begun(self, now: float, settings: ProviderSettings, use: CacheUse) -> None:
        """The answer to a request begins: what it wrote can be read."""
        for key in use.writes:
            self._expires[key] = now + settings.prompt_cache_seconds

    def _read(self, now: float, settings: ProviderSettings, key: Key) -> bool:
        expires = self._expires.get(key)
        if expires is None:
            return False
        if expires <= now:
            del self._expires[key]
            return False
        self._expires[key] = now + settings.prompt_cache_seconds
        return True


def routed(pieces: Sequence[Piece]) -> str:
    """A digest of the beginning that decides which machine serves a prompt."""
    text = "".join(piece.text for piece in pieces)[: int(ROUTED * CHARACTERS)]
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _at(step: int) -> int:
    return int(step * STEP * CHARACTERS)


def _ends(pieces: Sequence[Piece]) -> Iterator[tuple[bytes, int]]:
    """For each piece, a digest of everything up to its end, and the tokens up to there."""
    digest, tokens = blake2b(digest_size=16), 0
    for piece in pieces:
        digest.update(piece.text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
        tokens += piece.tokens
        yield digest.digest(), tokens
