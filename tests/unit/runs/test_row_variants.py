"""Rows in all their variants: which model, which sample, under which columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.runs.input.begun import Input
from flatout.runs.input.check import check
from flatout.runs.input.read import open_input
from flatout.runs.input.variants import MODEL, SAMPLE, Variants
from flatout.runs.prompts.recipe import Recipe
from flatout.values import Call

NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)


def rows_of(path: Path, *rows: dict[str, Any]) -> Input:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_input(str(path))


@given(models=NAMES | st.none(), samples=st.integers(1, 4) | st.none(), count=st.integers(1, 5))
def test_every_row_comes_once_for_each_model_and_sample(
    tmp_path_factory: pytest.TempPathFactory, models: list[str] | None, samples: int | None, count: int
) -> None:
    """A place in the run file would belong to two answers, or to none."""
    variants = Variants(models=models, samples=samples)
    path = tmp_path_factory.getbasetemp() / "in.jsonl"
    rows = list(variants.of(rows_of(path, *({"prompt": f"{n}"} for n in range(count)))))
    assert [row.index for row in rows] == list(range(count * variants.count))
    made = [(row.columns["prompt"], row.columns.get(MODEL), row.columns.get(SAMPLE)) for row in rows]
    whole = range(samples) if samples is not None else [None]
    assert made == [(f"{n}", model, sample) for n in range(count) for model in models or [None] for sample in whole]
    recipe = Recipe(model="own", variants=variants)
    calls = [recipe.call(row) for row in rows]
    assert [(call.model, call.sample) for call in calls] == [(model or "own", sample) for _, model, sample in made]


def test_a_name_that_is_taken_gets_a_prefix(tmp_path: Path) -> None:
    """The user's own column would be overwritten."""
    source = rows_of(tmp_path / "in.jsonl", {"prompt": "x", "sample": "mine"}, {"prompt": "y"})
    first, _, third, _ = Variants(samples=2).of(source)
    assert first.columns == {"prompt": "x", "sample": "mine", "flatout_sample": 0}
    assert third.columns == {"prompt": "y", "sample": 0}


def test_a_seed_counts_up_from_the_row_s_own(tmp_path: Path) -> None:
    """All samples would be the same answer."""
    source = rows_of(tmp_path / "in.jsonl", {"prompt": "x", "seed": 40})
    variants = Variants(samples=3)
    recipe = Recipe(variants=variants)
    assert [recipe.call(row).seed for row in variants.of(source)] == [40, 41, 42]


def test_a_model_that_is_asked_wins_over_the_row_s_own(tmp_path: Path) -> None:
    """A comparison would compare a model with itself."""
    source = rows_of(tmp_path / "in.jsonl", {"prompt": "x", "model": "own"})
    variants = Variants(models=["a", "b"])
    recipe = Recipe(variants=variants)
    assert [recipe.call(row).model for row in variants.of(source)] == ["a", "b"]


def test_every_model_is_checked_before_the_first_call(tmp_path: Path) -> None:
    """The half of a comparison would fail after the other half was paid for."""
    seen: list[str | None] = []

    def accept(call: Call) -> None:
        seen.append(call.model)

    variants = Variants(models=["a", "b"], samples=2)
    source = variants.of(rows_of(tmp_path / "in.jsonl", {"id": 1, "prompt": "x"}, {"id": 2, "prompt": "y"}))
    assert check(source, Recipe(variants=variants), accept=accept).rows == 8
    assert set(seen) == {"a", "b"}


def test_an_id_twice_is_found_among_variants(tmp_path: Path) -> None:
    """Two rows' answers could not be told apart; or each row be refused for its own samples."""
    variants = Variants(samples=3)
    source = variants.of(rows_of(tmp_path / "in.jsonl", {"id": 1, "prompt": "x"}, {"id": 1, "prompt": "y"}))
    with pytest.raises(ConfigError, match=r"line 2: the id '1' was already used on line 1"):
        check(source, Recipe(variants=variants))


@pytest.mark.parametrize("given", [{"models": []}, {"models": ["a", "a"]}, {"samples": 0}, {"samples": True}])
def test_variants_that_are_none_are_refused(given: dict[str, Any]) -> None:
    """A run would end at once with nothing done, and look like success."""
    with pytest.raises(ConfigError):
        Variants(**given)
