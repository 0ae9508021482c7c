"""A plan: what a job will cost and how long it will take, as ranges, before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from flatout.text.shown import dollars, shown

from .quantiles import quantile


class Range(Struct, frozen=True, order=True, gc=False):
    """A forecast number: in 10 of 100 such jobs it is below ``p10``, in 50 below ``p50``, in 90 below ``p90``."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """The quantiles of equally likely values, of which there is at least one."""
        ordered = sorted(values)
        return cls(*(quantile(ordered, share) for share in (0.1, 0.5, 0.9)))

    def holds(self, value: float) -> bool:
        """Whether a value lies between ``p10`` and ``p90``."""
        return self.p10 <= value <= self.p90

    def times(self, factor: float) -> Range:
        """The range of a multiple of the number."""
        return Range(self.p10 * factor, self.p50 * factor, self.p90 * factor)


class Lane(Struct, frozen=True, kw_only=True):
    """One way to ask the rows that are left: ``live``, ``flex`` or ``batch``.

    Attributes:
        name: its name.
        cost: US dollars; None if the price is not known.
        seconds: how long it takes; None if nobody can know.
        within: the provider's own bound on that, in seconds; None if there is none.
        refuses: what it does not take, in words.
        offered: whether the provider has it.
        usable: whether flatout can use it; not if a setting is missing.
    """

    name: str
    cost: Range | None = None
    seconds: Range | None = None
    within: float | None = None
    refuses: str = ""
    offered: bool = True
    usable: bool = True


class ModelPlan(Struct, frozen=True, kw_only=True):
    """The part of a plan that one model has. Its ranges are about the calls that are left to ask.

    Attributes:
        model: its name.
        calls: its calls in the whole job.
        left: those that are left to ask.
        asked: calls of the sample that have an answer or a failure.
        too_long: calls that do not fit the model's context. They are not in the forecast.
        longest: the tokens of the longest of them.
        context: the model's context, in tokens; None if not known.
        input_tokens: tokens of prompts.
        output_tokens: tokens of answers, reasoning included.
        reasoning_tokens: tokens of reasoning; None if the provider does not tell them.
        cost: US dollars; None if the price is not known.
        seconds: the time that it takes, in the live lane.
        held_by: what holds the calls back most of that time (a key of `flatout.events.WAITS`); "" for nothing but the
            model's own speed.
        limits: the limits that were used, given or reported: by the names of `Limits`.
        failures: the sample's failures, by the error's class.
        lanes: the ways to ask.
        saved_by_caching: US dollars of this cost that ``prompt_cache="auto"`` would save; None if that is less than 1 %
            of it, not known, or done already.
    """

    model: str
    calls: int = 0
    left: int = 0
    asked: int = 0
    too_long: int = 0
    longest: float = 0.0
    context: int | None = None
    input_tokens: Range | None = None
    output_tokens: Range | None = None
    reasoning_tokens: Range | None = None
    cost: Range | None = None
    seconds: Range | None = None
    held_by: str = ""
    limits: Mapping[str, float] = {}
    failures: Mapping[str, int] = {}
    lanes: tuple[Lane, ...] = ()
    saved_by_caching: Range | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What a job will cost and take. The ranges are about the calls that are left to ask.

    Attributes:
        calls: all calls of the job.
        finished: those that have a result in the run file, the sample's included.
        left: those that are left to ask.
        asked: calls of the sample.
        duplicates: calls that repeat another one. With a cache they are not asked, and not in the forecast.
        cached: calls that a cache answers.
        too_long: calls that do not fit their model's context.
        spent: US dollars that the sample cost, as far as it is known; None if nothing is known.
        unpriced: calls of the sample that may have cost an unknown amount, which ``spent`` lacks.
        cost: US dollars for what is left, in its lane; None if a price is not known.
        seconds: the time for what is left, with all models at once; None if nobody knows it.
        lane: the lane that the job takes: ``live``, ``flex`` or ``batch``.
        why: why it takes this lane, in words; "" if the user named it.
        models: the parts of the models, in the order in which they appear.
        assumed: what the forecast rests on and does not know, one sentence each.
        measured: whether a sample was asked; False for a dry run.
    """

    calls: int
    finished: int = 0
    left: int = 0
    asked: int = 0
    duplicates: int = 0
    cached: int = 0
    too_long: int = 0
    spent: float | None = 0.0
    unpriced: int = 0
    cost: Range | None = None
    seconds: Range | None = None
    lane: str = "live"
    why: str = ""
    models: tuple[ModelPlan, ...] = ()
    assumed: tuple[str, ...] = ()
    measured: bool = True

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # any iterable is what rich wants
        yield "calls", self.calls
        yield "left", self.left
        yield "cost", None if self.cost is None else _short(self.cost, dollars)
        yield "seconds", None if self.seconds is None else _short(self.seconds, "{:.0f}".format)
        yield "spent", None if self.spent is None else dollars(self.spent)

    def __repr__(self) -> str:
        return shown("Plan", self.__rich_repr__())

    def _repr_html_(self) -> str:
        from flatout.text.html import table  # for notebooks only

        known = ((name, value) for name, value in self.__rich_repr__() if value is not None)
        return table(((name, str(value)) for name, value in known), [self.lane, *self.assumed])


def _short(range_: Range, written: Any) -> str:
    return f"{written(range_.p10)} to {written(range_.p90)}"
