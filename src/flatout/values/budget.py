"""A budget: how much money, for how long, and who shares it."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from flatout.errors import ConfigError

from .checks import is_positive
from .place import is_place, redis_place

OVER = 0.004
"""The stated bound on an overshoot, as a share of the budget: 2 cents of 5 dollars."""


class Standing(Struct, frozen=True, omit_defaults=True):
    """How a budget stands.

    Attributes:
        budget: the budget in words, such as ``$20 a day (team)``.
        left: US dollars that nobody has spent or reserved; None if not known yet.
        over: the stated bound on an overshoot, in US dollars; 0 for a budget that processes share.
        exposed: by how much it could have been exceeded, had all answers in flight been the longest possible at once.
        per, scope: of a budget that processes share; None for one run's.
        usd: its whole amount in US dollars; None if an earlier flatout wrote it down.
    """

    budget: str
    left: float | None
    over: float
    exposed: float
    per: str | None = None
    scope: str | None = None
    usd: float | None = None


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """The most to spend, in US dollars.

    Args:
        usd: the amount.
        per: what it is for: one ``"run"`` (and the processes that continue it), a ``"day"`` or a ``"month"``. Days and
            months are those of UTC.
        scope: a name, or an address such as ``"redis://host:6379/0/team"``. All processes of this user on this machine
            that use the same name share one budget, and those of all machines that use the same address. Days and
            months without a scope share the name ``"default"``. A run with a scope never starts anew: everything ever
            spent under it counts.

    Raises:
        ConfigError: the amount, the period or the scope is wrong.
    """

    usd: float
    per: Literal["run", "day", "month"] = "run"
    scope: str | None = None

    def __post_init__(self) -> None:
        if not is_positive(self.usd):
            raise ConfigError(f"budget is a number above 0, not {self.usd!r}")
        if self.per not in ("run", "day", "month"):
            raise ConfigError(f"a budget is per 'run', 'day' or 'month', not {self.per!r}")
        scope: Any = self.scope
        if scope is not None and not (isinstance(scope, str) and scope.strip() and scope.isprintable()):
            raise ConfigError(f"a budget's scope is a name, such as 'team', not {scope!r}")
        if scope is not None and is_place(scope):
            redis_place(scope, "budgets")

    @property
    def over(self) -> float:
        """The stated bound on an overshoot, in US dollars."""
        return OVER * self.usd

    @property
    def shared(self) -> str | None:
        """The name under which processes share it; None if it belongs to one run."""
        return self.scope or (None if self.per == "run" else "default")

    def __str__(self) -> str:
        """The amount, the period and the scope in words: ``$20 a day (team)``."""
        period = "" if self.per == "run" else f" a {self.per}"
        return f"${self.usd:g}{period}" + (f" ({self.shared})" if self.shared else "")
