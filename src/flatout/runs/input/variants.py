"""Several models and samples: the input, with each row repeated once for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from flatout.edge.variants import check_variants

from .begun import Input
from .rows import Row, Variant

MODEL, SAMPLE = "requested_model", "sample"
"""The columns that tell a row's variants apart in the output; they follow the input's own."""


class Variants(Struct, frozen=True, kw_only=True):
    """Which models to ask, and how often.

    Args:
        models: the models that every row goes to; None for the recipe's model, or the row's own.
        samples: how often to ask each of them; None for once.

    Raises:
        ConfigError: these values make no variants.
    """

    models: Sequence[str] | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        check_variants(self.models, self.samples)

    @property
    def count(self) -> int:
        """How many rows of the output one row of the input becomes."""
        return check_variants(self.models, self.samples)

    def of(self, source: Input) -> Input:
        """The input in all its variants; the input itself if there is only one."""
        return source if self.models is None and self.samples is None else _Varied(source, self)


class _Varied(Input):
    """An input that yields each row once for each variant, next to each other."""

    __slots__ = ("_source", "_variants")

    def __init__(self, source: Input, variants: Variants) -> None:
        self.name = source.name
        self.format = source.format
        self.repeatable = source.repeatable
        self._source = source
        self._variants = _pairs(variants)
        self.types = source.types
        own = source.columns
        self.columns = None if own is None else (*own, *(name for name, _ in _columns(self._variants[0], own)))

    def __iter__(self) -> Iterator[Row]:
        count = len(self._variants)
        for row in self._source:
            for number, variant in enumerate(self._variants):
                columns = {**row.columns, **dict(_columns(variant, row.columns))}
                yield replace(row, index=row.index * count + number, columns=columns, variant=variant)


def _pairs(variants: Variants) -> list[Variant]:
    models: Sequence[str | None] = (None,) if variants.models is None else variants.models
    samples: Sequence[int | None] = (None,) if variants.samples is None else range(variants.samples)
    pairs = [(model, sample) for model in models for sample in samples]
    return [Variant(model, sample, first=number == 0) for number, (model, sample) in enumerate(pairs)]


def _columns(variant: Variant, taken: Sequence[str] | dict[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in ((MODEL, variant.model), (SAMPLE, variant.sample)):
        if value is not None:
            yield (f"flatout_{name}" if name in taken else name), value
