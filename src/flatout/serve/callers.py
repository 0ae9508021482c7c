"""Those who send calls to the gateway: what each may do, and what each has done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Container, Iterable, Iterator

from msgspec import Struct

from flatout.money.purse import Purse
from flatout.policies.pacing.gcra import Gcra
from flatout.store.gateway import FailedCalls
from flatout.values.budget import Budget

from .loans import Loans

MINUTE = 60.0

MOST_UNKNOWN = 1_000
"""The most callers without a local key that have a place each; the others share one."""

OTHERS = "others"

EXAMPLE = 300
"""Characters of a failure's words that are kept."""


class Allowed(Struct, frozen=True, omit_defaults=True):
    """What a caller may do. None is no bound.

    Attributes:
        budget: the most that its calls may cost.
        rpm: the most calls per minute.
        concurrency: the most calls at once.
        priority: the highest priority of its calls.
        weight: how many of its calls go in its turn.
        sees_all: whether ``/status`` and ``/metrics`` show it the other callers, too.
        files: the most bytes of its files together; None for `flatout.serve.files.MOST_KEPT`.
    """

    budget: Budget | None = None
    rpm: float | None = None
    concurrency: int | None = None
    priority: float | None = None
    weight: int = 1
    sees_all: bool = False
    files: int | None = None


_ANYTHING = Allowed()


class Caller:
    """One caller.

    Args:
        name: its key's name, or what tells it from others without keys.
        allowed: what it may do.

    Attributes:
        name, allowed: see above.
        calls: how many it has made.
        failures: those that ended with an error, by its class.
        hung_up: how many it did not wait for.
        inside: those that have left the gate, and have not ended.
        cost: US dollars known to be spent on it.
        unpriced: calls of unknown cost.
        changing: held while what its key allows is changed.
        purse: holds its calls to its budget; None without one. See `flatout.serve.loans`.
        removed: whether its key was removed, and it has no other: then nothing is sent for it.
        removals: how often its key was removed. What waited then is not sent.
    """

    __slots__ = (
        *("_rate", "allowed", "calls", "changing", "cost", "failures", "hung_up", "inside", "name", "purse", "removed"),
        *("removals", "unpriced"),
    )

    def __init__(self, name: str, allowed: Allowed = _ANYTHING) -> None:
        self.name = name
        self.calls = self.hung_up = self.inside = self.removals = self.unpriced = 0
        self.cost = 0.0
        self.failures: dict[str, FailedCalls] = {}
        self.changing = asyncio.Lock()
        self.purse: Purse | None = None
        self.removed = False
        self.allow(allowed)

    def allow(self, allowed: Allowed) -> None:
        """Change what it may do, apart from its purse."""
        self.allowed = allowed
        self._rate: Gcra | None = None

    @property
    def failed(self) -> int:
        """How many of its calls ended with an error."""
        return sum(each.calls for each in self.failures.values())

    def fails(self, error: Exception) -> None:
        """One of its calls has ended with an error."""
        name = type(error).__name__
        before = self.failures.get(name)
        self.failures[name] = FailedCalls(name, 1 + (before.calls if before else 0), str(error)[:EXAMPLE])

    def ready_at(self, now: float) -> float:
        """When its next call may go; infinity while it has as many at once as it may have."""
        allowed = self.allowed
        if allowed.concurrency is not None and self.inside >= allowed.concurrency:
            return math.inf
        if allowed.rpm is None:
            return now
        if self._rate is None:
            self._rate = Gcra(allowed.rpm / MINUTE, max(1.0, MINUTE / allowed.rpm), now - MINUTE)
        return self._rate.ready_at(1.0)

    def holds(self, now: float) -> str:
        """The limit of its own that lets no more calls go now: ``rpm``, ``concurrency``; "" for none."""
        ready = self.ready_at(now)
        return "" if ready <= now else "rpm" if math.isfinite(ready) else "concurrency"

    @property
    def lacks_money(self) -> bool:
        """Whether calls that had their turn wait for its budget."""
        return self.purse is not None and self.purse.waiting > 0

    def goes(self, now: float) -> None:
        """One of its calls goes."""
        self.inside += 1
        if self._rate is not None:
            self._rate.take(1.0, now)


class Callers:
    """All callers that have been seen.

    Args:
        loans: has the purses of those with a budget.
    """

    def __init__(self, loans: Loans) -> None:
        self._loans = loans
        self._known: dict[str, Caller] = {}

    def __iter__(self) -> Iterator[Caller]:
        return iter(self._known.values())

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def was_removed(self, name: str) -> bool:
        """Whether the key of a name was removed since it asked last."""
        caller = self._known.get(name)
        return caller is not None and caller.removed

    async def of(self, name: str, allowed: Allowed | None = None) -> Caller:
        """A caller by its name.

        Args:
            name: the name.
            allowed: what its key allows; None for a caller without a local key.

        Raises:
            ConfigError: its budget cannot be used.
        """
        caller = self._known.get(name)
        if caller is None:
            if allowed is None and len(self._known) >= MOST_UNKNOWN:
                name = OTHERS
            caller = self._known.setdefault(name, Caller(name))
        caller.removed = False
        if allowed is not None and caller.allowed != allowed:
            await self._allow(caller, allowed)
        return caller

    def remove(self, names: Iterable[str], keyring: Container[str]) -> None:
        """The keys of these names were removed: send nothing more for them, and give their money back.

        Args:
            names: the names.
            keyring: those that have a key now, maybe another one.
        """
        for caller in (self._known[name] for name in names if name in self._known):
            caller.removals += 1
            if caller.name in keyring:
                continue
            caller.removed = True
            caller.allow(_ANYTHING)
            if caller.purse is not None:
                self._loans.dismiss(caller.purse)
                caller.purse = None

    async def _allow(self, caller: Caller, allowed: Allowed) -> None:
        async with caller.changing:  # to find a budget takes a moment, or seconds if its server is away
            if caller.allowed == allowed:  # another call has seen to it meanwhile
                return
            if allowed.budget != caller.allowed.budget:
                purse = None if allowed.budget is None else await self._loans.purse(allowed.budget)
                former, caller.purse = caller.purse, purse  # only now: its key may have been removed meanwhile
                if former is not None:
                    self._loans.dismiss(former)
            caller.allow(allowed)
