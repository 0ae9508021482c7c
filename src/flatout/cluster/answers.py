"""Answers in Redis or Valkey, for workers on several machines: above all for an engine's task that is tried again.

Each answer is one value, under the digest of its question. It begins with a checksum over that digest and the rest, so
nothing that is damaged, or lies under another key, is taken for an answer.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from importlib import resources
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Struct

from flatout.errors import ConfigError
from flatout.presence import Presence
from flatout.values.answers import Entry, Found, New, Wanted
from flatout.values.kept import Kept
from flatout.values.place import Place

from .line import RedisLine
from .redis import FIRST_PATIENCE, cannot, too_far, tried

FORMAT = 1
"""The version of the values. Raise it if they change: programs with different versions use different keys."""

KEPT = 30 * 86_400
"""Seconds after which the server removes an answer, unless the user gave an age."""

AT_ONCE = 32
"""Answers that are read or written in one step. If all are the largest, that is 32 MB, for which all others wait."""

CLAIMED_AT_ONCE = 100
"""Questions that are claimed, or given up, in one step, whose message is 18 KB. No answer is read in it."""

LARGEST = 1 << 20
"""Bytes of the largest value. A larger answer is not kept."""

CLAIMED = 3_600
"""Seconds after which a claim is removed whatever happens."""

ALIVE = 5
"""Seconds for which a worker's claims hold without a word from it."""

POLL = 1.0
"""Seconds between two looks at a question that another worker asks."""

BEAT = 1.0
"""Seconds between two such words."""

PATIENCE = 1.0
"""Seconds to wait for the server, to connect and for each answer. A lookup saves money, so it may wait longer than an
exchange of limits."""

HICCUP = 2.0
"""Seconds for which lookups wait for a server that has just gone away."""

REST = 5.0
"""Seconds between two looks for a server that is away for longer."""

CLAIM = (resources.files(__package__) / "claims.lua").read_text()
UNCLAIM = (resources.files(__package__) / "unclaim.lua").read_text()

_ELSEWHERE, _ANSWERED = 0, 2  # as `claims.lua` says it

_CHECKSUM = 16  # bytes
_log = logging.getLogger("flatout")


class AnswersInRedis:
    """The server as a shelf; see `flatout.values.answers.Shelf`.

    A question that a worker asks now is its claim (`claims.lua`), which holds while the worker shows that it lives.

    Args:
        place: where it is.
        max_age: seconds for which an answer is kept; None for `KEPT`.
    """

    gather = 0.0
    hiccup = HICCUP
    rest = REST
    poll = POLL
    beat = BEAT

    def __init__(self, place: Place, max_age: float | None = None) -> None:
        self.name = str(place)
        self._place = place
        self._presence = Presence(self._try)
        self._line = self._line_with(PATIENCE)
        self._answers = prefix(place)
        self._claims = prefix(place, "claims")
        self._workers = prefix(place, "workers")
        self._worker = uuid.uuid4().hex
        self._claim = self._line.script(CLAIM)
        self._unclaim = self._line.script(UNCLAIM)
        self._claimed: set[bytes] = set()
        self._freed: list[bytes] = []
        self._lapsed = False
        self._seconds = max(1, round(max_age or KEPT))
        self._refused = False

    def check(self) -> None:
        """See `flatout.store.answers.Shelf`. The server must be there, and let us in. A full one will do."""
        self._presence.check()

    def look(self, wanted: Sequence[Wanted], found: Found) -> None:
        """Look up questions, and claim those without an answer.

        Most often that is one step: what has no answer is claimed in it, and only answers are read after it.
        """
        claims = {one.key: one for one in wanted if one.claims}
        mine = self._claim_all(list(claims), found)
        found.answered.difference_update(one.key for one in wanted if one.reads)
        known = mine | found.elsewhere | found.answered
        self._read([key for key in {one.key for one in wanted} if key not in known], found)
        old = [key for key, one in claims.items() if key not in known and one.fresh(found.kept.get(key)) is None]
        renewed = self._claim_all(old, found, renew=True)
        self._read(renewed, found)  # another worker may have renewed it just now
        for key in renewed:
            if claims[key].fresh(found.kept.get(key)) is not None:
                self.free(key)

    def _read(self, keys: Collection[bytes], found: Found) -> None:
        for some in parts(keys):
            entries = map(entry_of, some, self._line.read([self._answers + key.hex() for key in some]))
            found.kept.update((entry.key, entry.kept) for entry in entries if entry is not None)

    def _claim_all(self, keys: Sequence[bytes], found: Found, *, renew: bool = False) -> set[bytes]:
        """Claim those questions that nobody asks, and that have no answer; with ``renew`` also those that have one.

        A server that is full takes no claims, but its answers are used all the same. Then everybody asks.
        """
        claimed: set[bytes] = set()
        if keys:
            self._free_all()
        for some in parts(keys, CLAIMED_AT_ONCE):
            names = [begins + key.hex() for key in some for begins in (self._answers, self._claims)]
            heard, *told = self._claim(names, [self._worker, self._workers, ALIVE, CLAIMED, int(renew)]) or [1]
            self._lapsed |= bool(self._claimed) and not heard
            for key, state in zip(some, told, strict=False):
                if state == _ELSEWHERE:
                    found.elsewhere.add(key)
                elif state == _ANSWERED:
                    found.answered.add(key)
                else:
                    claimed.add(key)
                    self._claimed.add(key)
        return claimed

    def keep(self, new: Sequence[New]) -> None:
        """Keep new answers. If the server refuses one, this says so once: the others may be read all the same."""
        for some in parts(new):
            values = {self._answers + each.key.hex(): value_of(each) for each in some}
            small = {name: value for name, value in values.items() if len(value) <= LARGEST}
            refusal = self._line.write(small, self._seconds, [self._claims + each.key.hex() for each in some])
            self._claimed.difference_update(each.key for each in some)
            if refusal is not None and not self._refused:
                _log.warning("the cache %s keeps no new answers: %s", self.name, refusal)
            self._refused = refusal is not None

    def free(self, key: bytes) -> None:
        """Let other processes ask a question, within `BEAT` seconds."""
        if key in self._claimed:
            self._freed.append(key)

    def hold(self) -> bool:
        """Show that this process lives, so that its claims hold. Returns whether there are any."""
        self._free_all()
        if self._claimed:
            word = self._workers + self._worker
            heard = self._line.read([word]) != [None]
            refusal = self._line.write({word: b"1"}, ALIVE)
            self._lapsed |= not heard and refusal is None  # a server that is full takes no claims
        return bool(self._claimed)

    def lapsed(self) -> bool:
        """Whether claims may have ended: the server restarted, or had no word from this process for `ALIVE` seconds."""
        lapsed, self._lapsed = self._lapsed, False
        return lapsed

    def _free_all(self) -> None:
        for freed in parts(list(self._freed), CLAIMED_AT_ONCE):  # any thread may add to it
            self._unclaim([self._claims + key.hex() for key in freed], [self._worker])
            self._claimed.difference_update(freed)
            del self._freed[: len(freed)]

    def reason(self, error: Exception) -> str:
        """Why it failed, for the end of a sentence."""
        return str(error)

    def close(self) -> None:
        """Free all questions, and close the connection."""
        with suppress(OSError):
            if self._claimed:
                self._line.remove([self._workers + self._worker])
        self._line.close()

    def _line_with(self, patience: float) -> RedisLine:
        return RedisLine(self._place, f"the cache {self._place} needs", patience)

    def _try(self) -> None:
        """Read something, as is done all the time."""
        with closing(self._line_with(FIRST_PATIENCE)) as line:
            try:
                took = tried(lambda: line.read([self._answers]), PATIENCE)
            except OSError as error:
                why = f"{cannot(error.__cause__ or error)}, so nothing is sent: {error}"
                raise ConfigError(f"the cache {self._place} {why}") from None
        if took > PATIENCE:
            raise ConfigError(f"the cache {self._place} is {too_far(took, PATIENCE)}")


def prefix(place: Place, what: str = "answers") -> str:
    """What the names of a team's keys begin with. The braces keep them together where a server is one of many."""
    return f"flatout:{{{place.name}}}:{what}:{FORMAT}:"


def value_of(new: New) -> bytes:
    """The value of an answer."""
    kept = new.kept
    content = _encode(_Content(kept.at, kept.cost, kept.said, new.asked()))
    return _checksum(new.key, content) + content


def entry_of(key: bytes, value: bytes | None) -> Entry | None:
    """The answer that a value holds. None if the value is missing or damaged."""
    if value is None or value[:_CHECKSUM] != _checksum(key, value[_CHECKSUM:]):
        return None
    try:
        content = _decode(value[_CHECKSUM:])
    except msgspec.MsgspecError:
        return None
    return Entry(key, Kept(at=content.at, cost=content.cost, said=content.said), content.asked)


class _Content(Struct, array_like=True):
    at: float
    cost: float | None
    said: bytes
    asked: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, key=key, digest_size=_CHECKSUM).digest()


PartT = TypeVar("PartT")


def parts(whole: Iterable[PartT], most: int = AT_ONCE) -> Iterator[list[PartT]]:
    """As many as are read or written in one step."""
    left = iter(whole)
    while some := list(islice(left, most)):
        yield some
