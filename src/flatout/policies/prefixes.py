"""Finds the beginnings that prompts share, among the last thousands of them.

A prompt is a row of blocks: the system prompt, then each message. Each block is cut into pieces, and each piece gets a
key that stands for everything up to its end, as providers' own prompt caches do it. Two prompts with a key in common
have all up to there in common. So to find what a prompt shares takes one look-up for each of its pieces, and the memory
needed is bounded by the number of keys, however many prompts there are.

The end of a block is always the end of a piece: a common system prompt is found to its last character. Within a block
the pieces grow with the distance from its start, so a beginning is found up to a 32nd of its length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

PIECE = 256
"""Characters of the shortest pieces, some 60 tokens."""

GROWTH = 32
"""A piece has at least this fraction of the characters before it in its block."""

LONGEST = 1 << 28
"""Characters of a block; what is behind them is one piece."""

MOST = 20_000
"""Keys after which the older half of them may be forgotten."""

BREAK = 200
"""Characters before the end of a shared piece in which a line break or a space is looked for, to end there instead."""

DROP = 2
"""A shorter beginning counts beside a longer one if at least this many times as many prompts have it."""


MORE = 1.1
"""A longer beginning counts beside a shorter one if it has at least this many times as many tokens."""


class Place(NamedTuple):
    """The end of a beginning: a block's number, and how many of its characters belong to the beginning."""

    block: int
    characters: int


class Beginning:
    """A beginning that at least two prompts share.

    Attributes:
        place: where it ends.
        prompts: how many prompts had it.
        tokens: its length; None until `Beginnings.steps` looked.
        name, state: for the user of this module.
    """

    __slots__ = ("name", "place", "prompts", "state", "tokens")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.prompts = 2
        self.tokens: float | None = None
        self.name: str | None = None
        self.state: object = None

    def __repr__(self) -> str:
        return f"Beginning({self.place}, prompts={self.prompts}, tokens={self.tokens})"

    @property
    def value(self) -> float:
        """Tokens of a prompt that are read from a cache, on average, if this beginning is cached."""
        return (self.tokens or 0.0) * (1.0 - 1.0 / self.prompts)


class Beginnings:
    """The beginnings of the last prompts.

    Args:
        count: the tokens of a text.
        least: tokens of the shortest beginning that matters.
    """

    def __init__(self, count: Callable[[str], float], least: float) -> None:
        self._count = count
        self._least = least
        self._new: dict[int, Beginning | Literal["once"]] = {}  # by key
        self._old: dict[int, Beginning | Literal["once"]] = {}

    def see(self, blocks: Sequence[str], head: Hashable = (), *, again: bool = False) -> list[Beginning]:
        """Take in a prompt, and return the beginnings that it shares with earlier ones, shortest first.

        Args:
            blocks: its blocks.
            head: what else must be equal, such as the tools and the model.
            again: whether the prompt was taken in before, and does not count once more.
        """
        if len(self._new) >= MOST:
            self._old, self._new = self._new, {}
        new, old = self._new, self._old
        found: list[Beginning] = []
        for key, place in _pieces(blocks, head):
            known = new.get(key) or old.get(key)
            if not again:
                known = new[key] = _once_more(known, place)
            if isinstance(known, Beginning):
                found.append(known)
        return found

    def steps(self, shared: Sequence[Beginning], blocks: Sequence[str], most: int) -> list[Beginning]:
        """The beginnings of a prompt that are worth caching, shortest first: at most ``most``.

        They are the longest one, and each shorter one that many more prompts have: the system prompt of all rows beside
        the document that some of them are about.
        """
        picked: list[Beginning] = []
        enough = 2
        for beginning in reversed(shared):
            if beginning.prompts < enough:
                continue
            if beginning.tokens is None:
                self._measure(beginning, blocks)
            if (beginning.tokens or 0.0) < self._least:
                break  # shorter ones have fewer tokens
            picked.append(beginning)
            enough = DROP * beginning.prompts
        worth: list[Beginning] = []
        for beginning in reversed(picked):
            if not worth or (beginning.tokens or 0.0) >= MORE * (worth[-1].tokens or 0.0):
                worth.append(beginning)
        best = sorted(worth, key=lambda each: each.value)[-most:]
        return [beginning for beginning in worth if beginning in best]

    def _measure(self, beginning: Beginning, blocks: Sequence[str]) -> None:
        """Note a beginning's tokens. If it ends within a block, it ends at a line break or a space instead."""
        block, characters = beginning.place
        text = blocks[block]
        if characters < len(text):
            characters = _break(text, characters)
            beginning.place = Place(block, characters)
        beginning.tokens = sum(map(self._count, blocks[:block])) + self._count(text[:characters])


def _once_more(known: Beginning | Literal["once"] | None, place: Place) -> Beginning | Literal["once"]:
    """A beginning that one more prompt has."""
    if known is None:
        return "once"
    if known == "once":
        return Beginning(place)
    known.prompts += 1
    return known


def text_of(blocks: Sequence[str], place: Place) -> str:
    """The text of a beginning, with something between its blocks that no text has."""
    return "\0".join([*blocks[: place.block], blocks[place.block][: place.characters]])


def _pieces(blocks: Sequence[str], head: Hashable) -> Iterator[tuple[int, Place]]:
    """The key of everything up to the end of each piece, and that end."""
    key = hash(head)
    for number, text in enumerate(blocks):
        start, whole = 0, len(text)
        for end in _ENDS:
            if end >= whole:
                break
            key = hash((key, text[start:end]))
            yield key, Place(number, end)
            start = end
        key = hash((key, text[start:], number))
        yield key, Place(number, whole)


def _ends() -> Iterator[int]:
    end = 0
    while end < LONGEST:
        end += max(PIECE, end // GROWTH)
        yield end


_ENDS = tuple(_ends())


def _break(text: str, end: int) -> int:
    """The end of the last line or word before ``end``."""
    for mark in ("\n", " "):
        found = text.rfind(mark, max(0, end - BREAK), end)
        if found >= 0:
            return found + 1
    return end


class Sharing(Struct, frozen=True, kw_only=True):
    """What prompts share, and so what a provider's prompt cache could save of them.

    Attributes:
        prompts: how many prompts there are.
        sharing: how many of them share a beginning that is long enough.
        tokens: tokens of all prompts.
        read: tokens that could be read from the cache.
        written: tokens that would be written to it first.
    """

    prompts: int = 0
    sharing: int = 0
    tokens: float = 0.0
    read: float = 0.0
    written: float = 0.0


def sharing(prompts: Iterable[tuple[Hashable, Sequence[str]]], count: Callable[[str], float], least: float) -> Sharing:
    """What could be saved of prompts, if one of each group fills the cache and nothing expires.

    Args:
        prompts: of each prompt, what else must be equal (see `Beginnings.see`), and its blocks.
        count: the tokens of a text.
        least: tokens of the shortest beginning that a provider caches.
    """
    known = Beginnings(count, least)
    prompts_seen, sharing_seen, tokens, read = 0, 0, 0.0, 0.0
    groups: dict[int, Beginning] = {}
    for head, blocks in prompts:
        prompts_seen += 1
        tokens += sum(map(count, blocks))
        picked = known.steps(known.see(blocks, head), blocks, 1)
        if picked:
            sharing_seen += 1
            read += picked[0].tokens or 0.0
            groups[id(picked[0])] = picked[0]
    return Sharing(
        prompts=prompts_seen,
        sharing=sharing_seen + len(groups),  # the first of each group did not know it yet
        tokens=tokens,
        read=read,
        written=sum(group.tokens or 0.0 for group in groups.values()),
    )
