"""What a cache of answers and the place where it keeps them tell each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .kept import Kept


class Wanted(NamedTuple):
    """A question whose answer is wanted.

    Attributes:
        key: its digest.
        since: answers from before that are not wanted, in Unix seconds.
        claims: whether to claim the question, if there is no answer.
        reads: whether to read the answer. Else it is enough to know that there is one.
    """

    key: bytes
    since: float
    claims: bool
    reads: bool = True

    def fresh(self, kept: Kept | None) -> Kept | None:
        """The answer, unless it is too old."""
        return None if kept is None or kept.at < self.since else kept


class Found:
    """What a look found.

    Attributes:
        kept: the answers, by the question's digest, whatever their age.
        elsewhere: the questions that another process asks now.
        answered: the questions that have an answer which was not read.
    """

    __slots__ = ("answered", "elsewhere", "kept")

    def __init__(self) -> None:
        self.kept: dict[bytes, Kept] = {}
        self.elsewhere: set[bytes] = set()
        self.answered: set[bytes] = set()


class New(NamedTuple):
    """A new answer.

    Attributes:
        key: the digest of the question.
        kept: the answer.
        describe: says what was asked, for people, as JSON.
    """

    key: bytes
    kept: Kept
    describe: Callable[[], bytes]

    def asked(self) -> bytes:
        """The question for people. An answer is kept without it if a user's own classes fail to describe themselves."""
        try:
            return self.describe()
        except Exception:
            return b"{}"


class Shelf(Protocol):
    """Where answers are kept. One thread uses it, and its methods block.

    Attributes:
        name: its name, for people.
        gather: seconds for which new answers are gathered before they are written.
        hiccup: seconds after a first failure for which lookups wait and are tried again every `poll` seconds; zero if a
            failure is final.
        rest: seconds for which it is left alone after a later failure; infinite if it is not used any more.
        poll: seconds between two looks at a question that another process asks.
        beat: seconds after which it has to `hold` its claims; infinite if the system does.
    """

    name: str
    gather: float
    hiccup: float
    rest: float
    poll: float
    beat: float

    def check(self) -> None:
        """Find out whether it can be used, before anything else is asked; see `flatout.presence`. Any thread may.

        Raises:
            ConfigError: it cannot.
        """
        ...

    def look(self, wanted: Sequence[Wanted], found: Found, /) -> None:
        """Look up questions, and claim those without an answer. What was added to ``found`` before an error counts."""
        ...

    def keep(self, new: Sequence[New], /) -> None:
        """Keep new answers, and free their questions, even if that fails."""
        ...

    def free(self, key: bytes, /) -> None:
        """Let other processes ask a question. Any thread may call this, and it does not block."""
        ...

    def hold(self) -> bool:
        """Show that this process lives, so that its claims hold. Returns whether there are any."""
        ...

    def lapsed(self) -> bool:
        """Whether claims may have ended by themselves since this was last called. It does not block."""
        ...

    def reason(self, error: Exception, /) -> str:
        """Why it failed, for the end of a sentence."""
        ...

    def close(self) -> None:
        """Close it, and free all questions."""
        ...


class Entry(NamedTuple):
    """One answer of the cache, with its question.

    Attributes:
        key: the digest of the question.
        kept: the answer.
        asked: the question, as JSON.
    """

    key: bytes
    kept: Kept
    asked: bytes


class Size(NamedTuple):
    """How much is in a cache.

    Attributes:
        answers: how many.
        cost: US dollars that they cost together, as far as it is known.
        unpriced: how many of them have an unknown cost.
        oldest, newest: when they were given, in Unix seconds; None if there are none.
        bytes: what they take.
    """

    answers: int
    cost: float | None
    unpriced: int
    oldest: float | None
    newest: float | None
    bytes: int
