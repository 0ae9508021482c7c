"""One prompt, many models and samples. Each call is repeated for each of them, one right after the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from flatout.errors import ConfigError
from flatout.tasks.closing import reading
from flatout.values import Call, CallLike, OutputT, Result


def check_variants(models: Sequence[str] | None, samples: int | None) -> int:
    """How many calls each call becomes.

    Raises:
        ConfigError: ``models`` is not a list of names, or has a name twice; or ``samples`` is not a count.
    """
    names: Any = models
    if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
        raise ConfigError(f"models is a list of names, not {models!r}")
    if models is not None and not models:
        raise ConfigError("models names no model")
    if models is not None and not all(name.strip() for name in models):
        raise ConfigError("models holds an empty name")
    if models is not None and len(set(models)) != len(models):
        raise ConfigError("models names a model twice: use samples for that")
    count: Any = samples
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise ConfigError(f"samples is a whole number above 0, not {samples!r}")
    return (1 if models is None else len(models)) * (samples or 1)


def variants_of(value: CallLike, models: Sequence[str] | None, samples: int | None) -> Iterator[CallLike]:
    """A call for each model, and for each model one for each sample.

    The samples of a call with a ``seed`` get seeds that count up from it, because equal seeds would give equal answers.
    A value that is not a valid call is repeated unchanged; the error comes later, where calls are made.
    """
    try:
        call: Call | None = Call.of(value)
    except ConfigError:
        call = None
    names: Sequence[str | None] = (None,) if models is None else models
    numbers: Sequence[int | None] = (None,) if samples is None else range(samples)
    for model in names:
        for sample in numbers:
            yield value if call is None else variant_of(call, model, sample)


def variant_of(call: Call, model: str | None, sample: int | None) -> Call:
    """A call to another model, as one of several samples. None leaves the call's own value."""
    seed = call.seed + sample if call.seed is not None and sample is not None else call.seed
    return replace(call, model=model or call.model, sample=call.sample if sample is None else sample, seed=seed)


def names_no_model(calls: object) -> bool:
    """Whether all calls of a list leave the model to the client. What is read only later may name some."""
    if not isinstance(calls, Sequence) or not calls:
        return False
    return not any(call.get("model") if isinstance(call, Mapping) else getattr(call, "model", None) for call in calls)


async def expanded(
    calls: Iterable[CallLike] | AsyncIterable[CallLike], models: Sequence[str] | None, samples: int | None
) -> AsyncIterator[CallLike]:
    """The variants of all calls, in order, lazily."""
    async with reading(calls) as source:
        async for call in source:
            for variant in variants_of(call, models, samples):
                yield variant


async def in_order(
    completed: AsyncGenerator[Result[OutputT], None], samples: int | None, *, strict: bool
) -> list[Result[OutputT]] | list[list[Result[OutputT]]]:
    """All results in input order, in groups if there are samples. With ``strict``, the first error is raised."""
    found: dict[int, Result[OutputT]] = {}
    async with aclosing(completed) as results:
        async for result in results:
            if strict and result.error is not None:
                raise result.error
            found[result.index] = result
    ordered = [found[index] for index in range(len(found))]
    if samples is None:
        return ordered
    return [ordered[start : start + samples] for start in range(0, len(ordered), samples)]
