"""Parameters for all calls, and names that belong elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import flatout
from flatout import Call, Client, ConfigError, Limits, RunMismatch
from flatout.agents import Agent
from flatout.edge.parameters import CALL, CLIENT, LIMITS, MANY, PLAN, UnknownOption, check_names
from flatout.tables._answers import OWN, Run
from tests.support.scripted_wire import Wire, client

KEY = "sk-" + "never-shown"
SIM = {"base_url": "http://sim/v1", "config": {}}


def gathered(calls: Any, wire: Wire, **options: Any) -> Any:
    async def main() -> Any:
        async with client(wire) as made:
            return await made.gather(calls, **options)

    return asyncio.run(main())


def one(wire: Wire, call: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with client(wire) as made:
            return await made.call(call, **options)

    return asyncio.run(main())


def bodies(wire: Wire) -> dict[str, Any]:
    """What was sent, by its prompt."""
    sent = [json.loads(request.body) for request in wire.requests]
    return {body["messages"][-1]["content"]: body for body in sent}


def _run(**options: Any) -> Any:
    return flatout.run(["a"], "m", transport=Wire(), **SIM, **options)


def _client(**options: Any) -> Any:
    return Client("m", transport=Wire(), **SIM, **options)


def _gather(**options: Any) -> Any:
    return gathered(["a"], Wire(), **options)


def _call(**options: Any) -> Any:
    return one(Wire(), "a", **options)


def _stream(**options: Any) -> Any:
    async def main() -> Any:
        async with client(Wire()) as made:
            return made.stream("a", **options)

    return asyncio.run(main())


def _as_completed(**options: Any) -> Any:
    async def main() -> Any:
        async with client(Wire()) as made:
            return [result async for result in made.as_completed(["a"], **options)]

    return asyncio.run(main())


def _map(**options: Any) -> Any:
    async def main() -> Any:
        async with client(Wire()) as made:
            return made.map(lambda item, client: client.call(item), ["a"], **options)

    return asyncio.run(main())


def _plan(**options: Any) -> Any:
    async def main() -> Any:
        async with client(Wire()) as made:
            return await made.plan(["a"], **options)

    return asyncio.run(main())


def _embed(**options: Any) -> Any:
    async def main() -> Any:
        async with client(Wire()) as made:
            return await made.embed(["a"], **options)

    return asyncio.run(main())


def _set_limits(**options: Any) -> Any:
    async def main() -> Any:
        async with client(Wire()) as made:
            made.set_limits(**options)

    return asyncio.run(main())


def _answers(**options: Any) -> Any:
    return flatout.tables.Answers("{{ text }}", **options)


def _agent(**options: Any) -> Any:
    return Agent(options=options)


_ASKS = {"run": _run, "client": _client, "call": _call, "gather": _gather, "stream": _stream, "agent": _agent}
_OTHERS = {
    "as_completed": _as_completed,
    "map": _map,
    "plan": _plan,
    "embed": _embed,
    "set_limits": _set_limits,
    "answers": _answers,
}


def test_the_names_are_those_of_the_client_and_of_calls():
    """An option that is new in the Client would be refused by `flatout.run`, or travel to the provider."""
    names = set(inspect.signature(Client).parameters) - {"unknown"}
    assert names == CLIENT
    assert LIMITS.isdisjoint(CALL | CLIENT)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (Client.gather, MANY),
        (Client.as_completed, MANY - {"strict"}),
        (flatout.run, MANY),
        (Client.plan, PLAN),
        (flatout.tables.Answers, OWN - set(Run.__struct_fields__)),
        (flatout.tables.answer, (OWN - {"error", "tokens", "cost", "replace", "nulls", "ahead"}) | {"table"}),
    ],
)
def test_the_options_whose_misspellings_are_found_are_those_there_are(function: Any, options: frozenset[str]) -> None:
    """A new option could be misspelt, and its wrong name travel to the provider."""
    others = CALL | CLIENT | {"self", "calls", "options"}
    assert set(inspect.signature(function).parameters) - others == options - others


def test_parameters_are_those_of_all_calls():
    """Each prompt would have to be wrapped in a Call, only to say that the temperature is 0."""
    wire = Wire()
    prompts = ["a", {"prompt": "b"}, Call("c")]
    gathered(prompts, wire, temperature=0, max_tokens=50, top_k=5, system="Be short.")
    assert {body["temperature"] for body in bodies(wire).values()} == {0}
    assert {body["max_tokens"] for body in bodies(wire).values()} == {50}
    assert {body["top_k"] for body in bodies(wire).values()} == {5}
    assert {body["messages"][0]["content"] for body in bodies(wire).values()} == {"Be short."}


def test_a_calls_own_values_win():
    """The one call that was told otherwise would be answered as all the others."""
    wire = Wire()
    calls = ["a", Call("b", temperature=1, model="own", extra={"top_k": 9}), {"prompt": "c", "min_p": 0.2}]
    results = gathered(calls, wire, temperature=0, model="theirs", top_k=5, deadline=9)
    sent = bodies(wire)
    assert [sent[prompt]["temperature"] for prompt in "abc"] == [0, 1, 0]
    assert [sent[prompt]["model"] for prompt in "abc"] == ["theirs", "own", "theirs"]
    assert [sent[prompt].get("top_k") for prompt in "abc"] == [5, 9, 5]
    assert sent["c"]["min_p"] == 0.2
    assert [result.call.deadline for result in results] == [9, 9, 9]


def test_an_output_for_all_is_validated():
    """``output=`` beside the prompts would be sent nowhere, and every answer come as a text."""
    [result] = gathered(["a"], Wire(lambda _: '{"answer": 7}'), output=int)
    assert result.unwrap() == 7


def test_samples_of_a_seed_for_all_count_up():
    """All samples would be one answer, paid for three times."""
    wire = Wire()
    gathered(["a"], wire, samples=3, seed=7)
    assert sorted(json.loads(request.body)["seed"] for request in wire.requests) == [7, 8, 9]


def test_calls_are_still_taken_lazily():
    """A million rows with a parameter would be read before the first is asked."""
    pulled: list[int] = []

    async def rows() -> AsyncIterator[str]:
        for number in range(1_000_000):
            pulled.append(number)
            yield f"{number}"

    async def main() -> None:
        async with client(Wire(), limits=Limits(concurrency=2)) as made:
            results = made.as_completed(rows(), temperature=0)
            assert (await anext(results)).call.temperature == 0
            await results.aclose()
            assert len(pulled) <= 2 * made.window

    asyncio.run(main())


def test_a_value_that_is_no_call_fails_alone():
    """One bad row would end the run as soon as a parameter is given for all."""
    good, bad = gathered(["a", 5], Wire(), temperature=0)
    assert good.ok
    assert isinstance(bad.error, ConfigError)


def test_a_run_file_knows_the_parameters(tmp_path):
    """A run that was stopped would go on with another temperature, and mix the answers of both."""
    gathered(["a"], Wire(), store=tmp_path / "x.flatout", temperature=0)
    with pytest.raises(RunMismatch, match="temperature: was 0, is now 1"):
        gathered(["a"], Wire(), store=tmp_path / "x.flatout", temperature=1)
    again = Wire()
    [result] = gathered([Call("a", temperature=0)], again, store=tmp_path / "x.flatout")
    assert result.ok
    assert not again.requests


def test_run_gives_each_name_to_whom_it_belongs():
    """`flatout.run` could not be told a temperature without wrapping every prompt."""
    wire = Wire()
    results = flatout.run(
        ["a"], "m", transport=wire, limits=Limits(concurrency=2), timeout=9, retries=0, seed=7, temperature=0, **SIM
    )
    assert results[0].ok
    body = bodies(wire)["a"]
    assert (body["temperature"], body["seed"]) == (0, 7)
    assert {"timeout", "retries", "limits"}.isdisjoint(body)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rpm": 600}, "rpm is a limit: write {}limits=Limits(rpm=600)"),
        ({"rpm": 600, "tpm": 9}, "rpm and tpm are limits: write {}limits=Limits(rpm=600, tpm=9)"),
        ({"concurrency": 8}, "write {}limits=Limits(concurrency=8)"),
        ({"max_workers": 8}, "max_workers is a limit: write {}limits=Limits(concurrency=8)"),
        ({"requests_per_minute": 60}, "write {}limits=Limits(rpm=60)"),
    ],
)
def test_a_limit_says_where_it_belongs(options, words):
    """The first thing that everybody tries would end in a bare TypeError, or be sent to the provider unheeded."""
    for ask, where in (
        (_run, ""),
        (_client, ""),
        (_gather, "Client(…, "),
        (_call, "Client(…, "),
        (_stream, "Client(…, "),
        (_agent, "Client(…, "),
    ):
        with pytest.raises(UnknownOption) as caught:
            ask(**options)
        assert words.format(where) in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "options", "words"),
    [
        ("run", {"key": KEY}, "did you mean api_key?"),
        ("run", {"max_retries": 2}, "did you mean retries?"),
        ("run", {"modle": "x"}, "did you mean model?"),
        ("run", {"temprature": 0}, "did you mean temperature? To send it as it is, write extra={'temprature': …}"),
        ("client", {"max_retries": 2}, "max_retries is no option; did you mean retries?"),
        ("client", {"temperature": 0}, "temperature is a parameter of calls: write client.call(…, temperature=0)"),
        ("client", {"whatever": 0}, "a call takes deadline, extra"),
        ("client", {"whatever": 0}, "The client takes allow_unknown_price, api_key, base_url"),
        ("call", {"retries": 2}, "retries is an option of the client: write Client(…, retries=2)"),
        ("call", {"key": KEY}, "write Client(…, api_key=…)"),
        ("gather", {"budget": 5.0}, "write Client(…, budget=5.0)"),
        ("stream", {"max_token": 5}, "did you mean max_tokens?"),
        ("call", {"tool_choices": 5}, "did you mean tool_choice?"),
        ("gather", {"system_prompt": "x"}, "did you mean system?"),
        ("agent", {"temprature": 0}, "did you mean temperature?"),
        ("agent", {"key": KEY}, "write Client(…, api_key=…)"),
        ("gather", {"storee": "a.flatout"}, "did you mean store?"),
        ("run", {"retry_faild": True}, "did you mean retry_failed?"),
        ("as_completed", {"progres": True}, "did you mean progress?"),
        ("as_completed", {"strict": True}, "client.gather and flatout.run take it"),
        ("call", {"strict": True}, "client.gather and flatout.run take it"),
        ("call", {"samples": 3}, "samples is an option of many calls at once"),
        ("map", {"samples": 3}, "samples is an option of many calls at once"),
        ("map", {"whatever": 3}, "whatever is no option: there are progress, retry_failed and store"),
        ("plan", {"samples_budget": 3}, "did you mean sample_budget?"),
        ("embed", {"dimension": 5}, "did you mean dimensions?"),
        ("set_limits", {"rpmm": 5}, "rpmm is no option: there are concurrency, itpm, otpm, rpd, rpm, target and tpm"),
        ("set_limits", {"burst": 5}, "burst is a limit: write Client(…, limits=Limits(burst=5))"),
        ("answers", {"eror": False}, "did you mean error?"),
    ],
)
def test_a_slip_says_what_to_write(ask, options, words):
    """A misspelt option would be paid for in every call, and change nothing."""
    with pytest.raises(UnknownOption) as caught:
        (_ASKS | _OTHERS)[ask](**options)
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("ask", sorted(_ASKS))
def test_a_refused_key_stands_in_no_traceback(ask):
    """``key=`` instead of ``api_key=`` would print the key, with the variables of every frame."""
    with pytest.raises(UnknownOption) as caught:
        _ASKS[ask](key=KEY, rpm=5)
    frame = caught.value.__traceback__
    while frame is not None:
        if "flatout" in frame.tb_frame.f_code.co_filename and "tests" not in frame.tb_frame.f_code.co_filename:
            assert KEY not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


@pytest.mark.parametrize(
    "name",
    [
        *(
            "top_k",
            "min_p",
            "max_new_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "top_logprobs",
            "n",
            "user",
        ),
        *(
            "frequency_penalty",
            "presence_penalty",
            "repetition_penalty",
            "logit_bias",
            "verbosity",
            "thinking",
            "store",
        ),
        *("response_format", "parallel_tool_calls", "stop_sequences", "typical_p", "best_of", "reasoning", "models"),
        *("prompt_cache_key", "safety_identifier", "instructions", "include", "truncation", "modalities", "plugins"),
        *("mode", "top_n", "min_tokens", "reasoning_format", "samplers", "web_search_options", "seed_2"),
    ],
)
def test_a_providers_own_parameter_is_sent(name):
    """A name that flatout does not know would be taken for a slip."""
    wire = Wire()
    one(wire, "a", **{name: "x"})
    assert bodies(wire)["a"][name] == "x"


def test_many_calls_take_a_providers_own_parameter_that_resembles_one_of_their_options():
    """A list of llama.cpp's samplers would be taken for a number of samples."""
    wire = Wire()
    gathered(["a"], wire, samplers=["top_k"])
    assert bodies(wire)["a"]["samplers"] == ["top_k"]


def test_an_agents_options_may_be_a_providers_own_parameters():
    """An agent could not set ``top_k``, which every other call can."""
    wire = Wire()

    async def main() -> None:
        async with client(wire) as made:
            await made.run_agent(Agent(options={"top_k": 5, "temperature": 0}), "a")

    asyncio.run(main())
    assert bodies(wire)["a"]["top_k"] == 5
    assert bodies(wire)["a"]["temperature"] == 0


@pytest.mark.parametrize("name", ["prompt", "messages", "id", "sample"])
def test_what_tells_calls_apart_is_not_given_to_all(name):
    """A million rows would have one id."""
    with pytest.raises(ConfigError, match=rf"{name} cannot be the same for all calls"):
        _gather(**{name: "x"})


def test_wrong_values_are_told_before_anything_is_sent():
    """A wrong number of tokens would fail a million rows, one by one."""
    with pytest.raises(ConfigError, match="max_tokens"):
        _gather(max_tokens=-1)
    with pytest.raises(ConfigError, match="model or models"):
        _gather(model="a", models=["a", "b"])


@pytest.mark.parametrize("option", [{"lane": "batch"}, {"within": 86_400}])
def test_a_lane_is_refused_in_the_library(option: dict[str, Any]) -> None:
    """The provider would be sent a parameter that it does not know, and the calls would cost twice what was meant."""
    (name,) = option
    with pytest.raises(ConfigError, match=f"{name} is an option of many calls at once"):
        check_names(option, CALL)
