"""Several targets as one model: which ones, in which order, and what stands in for them.

A route is written wherever a model's name is, and it is one: a text such as ``spill(openai/gpt-5-mini,
azure/gpt-5-mini, context=gemini/gemini-2.5-pro)``. So run files, caches and the command line name it like any other
model, and two routes are equal if they say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard, get_args

from msgspec import Struct

from flatout.errors import ConfigError

Cause = Literal["down", "rate", "quota", "context", "refusal", "schema", "silence"]
"""Why a target is left for another:

- ``down``: it has not answered for 30 s: unreachable, server errors, overloaded;
- ``rate``: it is paused for another 60 s or more;
- ``quota``: it is out of money or quota, or refuses the key;
- ``context``: the prompt is too long for the model;
- ``refusal``: the provider's filter stopped the call, or the model declined;
- ``schema``: the answer did not fit the schema, and all reasks are used up;
- ``silence``: all attempts timed out.
"""

CAUSES: tuple[str, ...] = get_args(Cause)

Order = Literal["spill", "spread"]
ORDERS: tuple[str, ...] = get_args(Order)

MOST_HEDGED = 0.5
"""The largest share of requests that may be hedges."""


class Route(str):
    """Several targets that stand for one model, wherever a model's name may stand.

    Each attempt goes to the first target that can take it at once. If none can, the call waits for all of them, and
    goes to the one that is free first. So several targets together are as fast as the sum of their limits.

    ``Route(*targets, order="spill", fallback=None, hedge=0.0)``

    Attributes:
        targets: models, ``provider/model``, in the order of preference. All of them are used when the ones before are
            busy, so list only those whose answers you hold for equal.
        order: ``spill`` fills the first target, then the second, and so on; ``spread`` prefers the target that has
            answered fastest lately, for the calls that it has in flight.
        fallback: other models for calls that the targets cannot answer, by cause: see `flatout.values.route.Cause`. A
            value is a model, or the name of a route in flatout.toml.
        hedge: the share of requests that may be sent a second time because the first is slow: 0.05 means at most 5 %
            more requests, for calls that take longer than 95 % did lately. 0 for none.

    Raises:
        ConfigError: there is no target, or an argument is wrong.
    """

    __slots__ = ("fallback", "hedge", "order", "targets")

    targets: tuple[str, ...]
    order: Order
    fallback: Mapping[Cause, str]
    hedge: float

    def __new__(
        cls,
        *targets: str,
        order: Order = "spill",
        fallback: Mapping[Cause, str] | None = None,
        hedge: float = 0.0,
    ) -> Route:
        _check(targets, order, fallback or {}, hedge)
        ordered = {cause: (fallback or {})[cause] for cause in CAUSES if cause in (fallback or {})}  # type: ignore[index]
        options = [f"{cause}={model}" for cause, model in ordered.items()] + ([f"hedge={hedge:g}"] if hedge else [])
        self = super().__new__(cls, f"{order}({', '.join([*targets, *options])})")
        self.targets, self.order, self.fallback, self.hedge = targets, order, ordered, hedge  # type: ignore[assignment]
        return self

    def __repr__(self) -> str:
        return f"Route({str.__repr__(str(self))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return parsed, (str(self),)


class Leg(Struct, frozen=True, gc=False, omit_defaults=True):
    """One target on a call's way, with all attempts there.

    Attributes:
        target: its name.
        left: the class of the error for which the call left it; "" if it answered. ``Hedged`` if another attempt was
            quicker.
        attempts: how often it was tried there.
        cost: US dollars; None if unknown.
        input_tokens: of the answers, usable or not; None if none was reported.
        output_tokens: the same of output.
    """

    target: str
    left: str = ""
    attempts: int = 0
    cost: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def and_then(self, later: Leg) -> Leg:
        """This leg and a later one to the same target, as one."""
        return Leg(
            self.target,
            later.left,
            self.attempts + later.attempts,
            None if self.cost is None or later.cost is None else self.cost + later.cost,
            _sum(self.input_tokens, later.input_tokens),
            _sum(self.output_tokens, later.output_tokens),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


class Share(Struct, frozen=True, kw_only=True):
    """What one target of a route did in a job.

    Attributes:
        answered: calls that it answered.
        attempts: how often it was tried.
        cost: US dollars, as far as they are known.
        unknown_costs: how many calls cost an unknown amount there.
        input_tokens: of its answers, usable or not, as far as it reports them.
        output_tokens: the same of output.
    """

    answered: int = 0
    attempts: int = 0
    cost: float = 0.0
    unknown_costs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def of(cls, leg: Leg, *, answered: bool) -> Share:
        """The share of one call."""
        return cls(
            answered=int(answered),
            attempts=leg.attempts,
            cost=leg.cost or 0.0,
            unknown_costs=int(leg.cost is None),
            input_tokens=leg.input_tokens or 0,
            output_tokens=leg.output_tokens or 0,
        )

    def __add__(self, other: Share) -> Share:
        return Share(
            answered=self.answered + other.answered,
            attempts=self.attempts + other.attempts,
            cost=self.cost + other.cost,
            unknown_costs=self.unknown_costs + other.unknown_costs,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


def added(*shares: Mapping[str, Share]) -> dict[str, Share]:
    """The shares of several parts of a job, target by target."""
    total: dict[str, Share] = {}
    for each in shares:
        for target, share in each.items():
            total[target] = total.get(target, Share()) + share
    return total


def parsed(text: str) -> Route | None:
    """The route that a text describes, in the form of ``str(route)``; None if it is a model's plain name.

    Raises:
        ConfigError: the text has that form, but describes no usable route.
    """
    order, opened, rest = text.strip().partition("(")
    if not opened or order not in ORDERS:
        return None
    if not rest.endswith(")"):
        raise ConfigError(f"the route {text!r} does not end with a bracket")
    targets: list[str] = []
    options: dict[str, str] = {}
    for part in rest[:-1].split(","):
        name, given, value = (each.strip() for each in part.partition("="))
        if given and (name in CAUSES or name == "hedge"):
            options[name] = value
        elif part.strip():
            targets.append(part.strip())
    try:
        hedge = float(options.pop("hedge", 0.0))
    except ValueError:
        raise ConfigError(f"the hedge of the route {text!r} is no number") from None
    return Route(*targets, order=order, fallback=options, hedge=hedge)  # type: ignore[arg-type]


def _check(targets: Sequence[Any], order: Any, fallback: Any, hedge: Any) -> None:
    if not targets:
        raise ConfigError('a route needs a target: Route("openai/gpt-5-mini", "azure/gpt-5-mini")')
    for name in targets:
        _check_name(name)
    twice = next((name for place, name in enumerate(targets) if name in targets[:place]), None)
    if twice is not None:
        raise ConfigError(f"a route names each target once; {twice!r} is there twice")
    if order not in ORDERS:
        raise ConfigError(f"the order of a route is spill or spread, not {order!r}")
    if not _is_mapping(fallback):
        raise ConfigError('fallback is a mapping of causes to models: fallback={"context": "gemini/gemini-2.5-pro"}')
    for cause, name in fallback.items():
        if cause not in CAUSES:
            raise ConfigError(f"no cause of a fallback is named {cause!r}; there are {', '.join(CAUSES)}")
        _check_name(name)
        if name in targets:
            raise ConfigError(f"the fallback for {cause}, {name!r}, is a target of the route already")
    if isinstance(hedge, bool) or not isinstance(hedge, int | float) or not 0.0 <= hedge <= MOST_HEDGED:
        raise ConfigError(f"hedge is a share of the requests from 0 to {MOST_HEDGED}, such as 0.05, not {hedge!r}")


def _is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"a route lists models' names, such as openai/gpt-5-mini, not {name!r}")
    if isinstance(name, Route) or parsed(name) is not None:
        raise ConfigError(f"a route lists models, not other routes: name the targets of {name} themselves")
    if any(sign in name for sign in ",()"):
        raise ConfigError(f"a model in a route has no comma and no bracket in its name: {name!r} has")
