"""The limits of a target: how much per time, how much at once."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from flatout.errors import ConfigError

from .checks import is_positive
from .place import is_place, place_of

WORKERS_OF = "the workers of "
"""How the name begins under which the processes of one run share limits that they share with nobody else."""

UNITS = {
    "rpm": "requests per minute",
    "rpd": "requests per day",
    "tpm": "tokens per minute",
    "itpm": "input tokens per minute",
    "otpm": "output tokens per minute",
}
"""The limits per time in words."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, repr_omit_defaults=True):
    """The limits of a target. None means unknown.

    Args:
        rpm: requests per minute.
        tpm: tokens per minute, input and output together.
        itpm: input tokens per minute.
        otpm: output tokens per minute.
        rpd: requests per day.
        burst: how many seconds' worth of each per-minute limit the provider accepts at once if its bucket is full: 60
            for a whole minute's calls, 1.0 for none ahead of their time. If None, calls run ahead as far as the
            headers allow. If the headers do not tell, up to a minute's worth is tried, and never again after a refusal.
        concurrency: the most requests in flight.
        adaptive: what to adapt if no limit is known: the ``"rate"`` (hosted providers) or the ``"concurrency"``
            (self-hosted servers). If None, the provider decides.
        shared: a name under which the processes of this machine obey the limits together: the given, reported or found
            limits, and ``concurrency``. Workers on several machines share them at an address with such a name at its
            end: ``"redis://host:6379/0/team"``, also with ``rediss://`` or ``unix:///path?db=0/team``; in a cluster of
            Ray, ``"ray://team"``.

    Raises:
        ConfigError: a limit is not a number above 0, ``concurrency`` is not whole, or ``shared`` is neither a name
            nor such an address.
    """

    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    rpd: float | None = None
    burst: float | None = None
    concurrency: int | None = None
    adaptive: Literal["rate", "concurrency"] | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "itpm", "otpm", "rpd", "burst", "concurrency"):
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ConfigError(f"the limit {name} is a number above 0, not {value!r}")
        if self.concurrency is not None and not isinstance(self.concurrency, int):
            raise ConfigError(f"the limit concurrency is a whole number, not {self.concurrency!r}")
        if self.adaptive not in (None, "rate", "concurrency"):
            raise ConfigError(f"adaptive is 'rate' or 'concurrency', not {self.adaptive!r}")
        shared: Any = self.shared
        if shared is not None and not (isinstance(shared, str) and shared.strip()):
            raise ConfigError(f"shared is a name, such as 'openai', not {shared!r}")
        if shared is not None and is_place(shared):
            place_of(shared)

    @property
    def with_others(self) -> bool:
        """Whether programs beside this run obey the limits together with it."""
        return self.shared is not None and not self.shared.startswith(WORKERS_OF)

    def over(self, base: Limits) -> Limits:
        """These limits, completed by those of ``base``."""
        return Limits(
            **{f: v if (v := getattr(self, f)) is not None else getattr(base, f) for f in self.__struct_fields__}
        )
