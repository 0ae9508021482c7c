"""Samples, and one prompt to many models: each call once for each, next to each other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flatout import Call, Client, ConfigError, run
from flatout.durable.records import content, fingerprint
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client


def gathered(calls: Any, wire: Wire, **options: Any) -> Any:
    async def main() -> Any:
        async with client(wire) as made:
            return await made.gather(calls, **options)

    return asyncio.run(main())


def sent(wire: Wire, name: str) -> list[Any]:
    return [json.loads(request.body).get(name) for request in wire.requests]


def test_samples_come_in_groups_a_call():
    """Whoever votes over samples would have to sort out which answer belongs to which prompt."""
    wire = Wire()
    groups = gathered(["a", "b"], wire, samples=3)
    assert [[result.call.prompt for result in group] for group in groups] == [["a"] * 3, ["b"] * 3]
    assert [result.call.sample for result in groups[1]] == [0, 1, 2]
    assert [result.index for group in groups for result in group] == list(range(6))
    assert len(wire.requests) == 6
    assert sent(wire, "sample") == [None] * 6


def test_samples_of_a_seeded_call_are_not_all_the_same():
    """A provider that honours the seed would answer each sample alike, and be paid for each."""
    wire = Wire()
    gathered([Call("a", seed=7)], wire, samples=3)
    assert sorted(sent(wire, "seed")) == [7, 8, 9]


def test_samples_have_keys_of_their_own():
    """A journal or run file would take one sample for another."""
    keys = {fingerprint(content(Call("a", sample=sample))) for sample in (None, 0, 1)}
    assert len(keys) == 3


def test_every_model_answers_every_prompt():
    """A comparison of models would lack answers, or not tell whose they are."""
    wire = Wire()
    results = gathered(["a", Call("b", model="own")], wire, models=["x", "y"])
    assert [(result.call.prompt, result.call.model) for result in results] == [
        *(("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")),
    ]
    assert sorted(sent(wire, "model")) == ["x", "x", "y", "y"]


def test_models_and_samples_together():
    """A comparison of models by several samples would lose its groups."""
    groups = gathered(["a", "b"], Wire(), models=["x", "y"], samples=2)
    assert [[(r.call.prompt, r.call.model, r.call.sample) for r in group] for group in groups] == [
        [("a", "x", 0), ("a", "x", 1)],
        [("a", "y", 0), ("a", "y", 1)],
        [("b", "x", 0), ("b", "x", 1)],
        [("b", "y", 0), ("b", "y", 1)],
    ]


def test_a_value_that_is_no_call_fails_alone_in_each_of_its_variants():
    """One bad row would take the whole comparison with it."""
    results = gathered(["a", 5], Wire(), models=["x", "y"])
    assert [result.ok for result in results] == [True, True, False, False]
    assert isinstance(results[2].error, ConfigError)


def test_samples_are_kept_and_not_asked_again(tmp_path):
    """Going on with sampled work would pay for it twice."""
    wire = Wire()
    first = gathered(["a"], wire, samples=2, store=tmp_path / "s.flatout")
    again = gathered(["a", "b"], wire, samples=2, store=tmp_path / "s.flatout")
    assert [r.text for r in again[0]] == [r.text for r in first[0]]
    assert len(wire.requests) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 0},
        {"samples": True},
        {"samples": "2"},
        {"models": "x"},
        {"models": []},
        {"models": ["x", "x"]},
        {"models": ["x", ""]},
    ],
)
def test_what_makes_no_variants_is_refused_before_anything_is_sent(options):
    """A mistyped option would ask for nothing, or for each letter of a name."""
    wire = Wire()
    with pytest.raises(ConfigError):
        gathered(["a"], wire, **options)
    assert not wire.requests


@pytest.mark.parametrize("entry", ["run", "gather", "as_completed"])
def test_an_unknown_model_among_several_is_refused_before_anything_is_sent(entry):
    """The good model would be paid for every row, and the other one fail each of them."""
    wire = Wire()
    options = {"transport": wire, "config": {"endpoints": {"mine": {"base_url": "http://sim/v1"}}}}
    models = ["mine/llama", "mime/llama"]

    async def main() -> None:
        async with Client(**options) as made:
            if entry == "gather":
                await made.gather(["a"], models=models)
            async for _ in made.as_completed(["a"], models=models):
                pass

    def ask() -> None:
        if entry == "run":
            run(["a"], models=models, **options)
        asyncio.run(main())

    with pytest.raises(ConfigError, match=r"'mime'; did you mean mine\? \(in flatout.toml: mine; built in: openai"):
        ask()
    assert not wire.requests


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_model(name):
    """A variable that was never set would ask whichever model flatout.toml names, or fail row by row."""
    for make in (lambda: Client(name, config={"model": "ollama/x"}), lambda: Call("a", model=name)):
        with pytest.raises(ConfigError, match="the model's name is empty"):
            make()


def test_input_is_still_read_lazily():
    """A million prompts by three models would all be made at once."""
    pulled = 0

    async def prompts():
        nonlocal pulled
        while True:
            pulled += 1
            yield str(pulled)

    async def main() -> None:
        async with client(Wire()) as made:
            results = made.as_completed(prompts(), samples=3)
            await anext(results)
            assert pulled <= made.window
            await results.aclose()

    run_virtual(main())
