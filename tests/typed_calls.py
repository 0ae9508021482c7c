"""What a type checker must see of calls and results. Checked by mypy, with the sources, and by pyright; never run."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, assert_type

from pydantic import BaseModel

import flatout
from flatout import Answered, Call, Client, Failed, Reply, Result
from flatout.agents import Agent, Outcome
from flatout.tables import Answers, answer, embed


class Person(BaseModel):
    name: str


@dataclass
class Place:
    name: str


class Row(TypedDict):
    name: str


class Mood(enum.Enum):
    GOOD = "good"


async def outputs_keep_their_types(client: Client) -> None:
    results = await client.gather([Call("Who?", output=Person)])
    assert_type(results, list[Result[Person]])
    assert_type(await client.call(Call("Where?", output=Place)), Reply[Place])
    assert_type(await client.gather([Call("Which?", output=Row)], samples=2), list[list[Result[Row]]])
    assert_type(await client.gather([Call("How?", output=Mood)], models=["a", "b"]), list[Result[Mood]])
    assert_type(await client.gather([Call("Who all?", output=list[Person])]), list[Result[list[Person]]])
    async for result in client.as_completed([Call("Who?", output=Person)]):
        assert_type(result, Result[Person])


async def an_output_given_by_name_is_the_type(client: Client) -> None:
    assert_type(await client.call("Who?", output=Person), Reply[Person])
    assert_type((await client.call("Who?", output=Person, temperature=0)).output, Person)
    assert_type(await client.call({"prompt": "Who all?"}, output=list[Person]), Reply[list[Person]])
    assert_type(await client.call(Call("Where?", output=Place), output=Person), Reply[Person])
    assert_type(client.stream("Who?", output=Person), Stream[Person])
    assert_type(client.stream(Call("Who?", output=Person)).reply, Reply[Person])
    assert_type(await client.result(Call("Who?", output=Person)), Result[Person])
    prompts = ["Who?", "Who else?"]
    assert_type(await client.gather(prompts, output=Person), list[Result[Person]])
    assert_type(await client.gather(prompts, output=Place, samples=2, top_p=0.5), list[list[Result[Place]]])
    assert_type(flatout.run(prompts, "local", output=Person, temperature=0), list[Result[Person]])
    assert_type(flatout.run(prompts, "local", output=Mood, samples=2), list[list[Result[Mood]]])
    async for result in client.as_completed(prompts, output=Person, max_tokens=50):
        assert_type(result, Result[Person])


async def an_agents_answer_has_its_type(client: Client) -> None:
    agent = Agent(output=Person)
    outcome = await client.run_agent(agent, "Who?")
    assert_type(outcome, Outcome[Person])
    assert_type(outcome.answer, Person)
    async for result in client.map(agent, ["Who?"]):
        assert_type(result, Result[Outcome[Person]])
        if result.ok:
            result.output.answer.name.upper()
    plain = await client.run_agent(Agent(instructions="…"), "Who?")
    assert_type(plain.answer, Any)
    assert_type((await client.run_agent(Agent(output={"type": "object"}), "Who?")).answer, Any)


def what_there_is_is_known_once_ok_was_asked(
    result: Result[Person], plain: Result, results: list[Result[Person]]
) -> None:
    if result.ok:
        result.output.name.upper()
        result.text.upper()
        result.reply.usage.total_tokens  # noqa: B018
    else:
        result.error.add_note("…")
    for each in results:
        if not each.ok:
            raise each.error
        each.output.name.upper()
    "".join([each.output.name for each in results if each.ok])
    plain.text.upper() if plain.ok else plain.error.args
    assert_type(result.unwrap(), Person)
    if isinstance(result, Answered):
        assert_type(result.text, str)
        assert_type(result.output, Person)
        assert_type(result.reply, Reply[Person])
    else:
        assert_type(result.error, Exception)
    match result:
        case Answered(output=person):
            assert_type(person, Person)
        case Failed(error=error):
            assert_type(error, Exception)
    assert isinstance(plain, Answered | Failed)
    assert_type(Failed(index=0, error=ValueError("…")).ok, Literal[False])
    ada = Person(name="Ada")
    assert_type(Answered(index=0, reply=Reply(text="…", output=ada), output=ada).output, Person)


async def slips_are_seen(client: Client, result: Result[Person]) -> None:
    Client(rpm=600)  # type: ignore[arg-type]
    await client.call("Who?", output=Person(name="Ada"))  # type: ignore[call-overload]
    if result.ok:
        result.text.uper()  # type: ignore[attr-defined]
    result.text.upper()  # type: ignore[union-attr]  # mypy alone sees that nobody has asked whether there is a text


async def everything_else_needs_no_annotation(client: Client) -> None:
    prompts = ["a", "b"]
    call = Call("a")
    assert_type(call, Call[Any])
    assert_type(await client.gather(prompts), list[Result[Any]])
    assert_type(await client.gather(prompts, temperature=0), list[Result[Any]])
    assert_type(await client.call("a", temperature=0), Reply[Any])
    (await client.call("a")).output.anything()
    assert_type(await client.gather([call, "b", {"prompt": "c"}]), list[Result[Any]])
    await client.gather([Call("Spam?", output=Literal["spam", "ham"]), Call("x", output=Person | Place)])
    await client.gather([Call("x", output={"type": "object"})])
    assert_type(flatout.run(prompts, model="local"), list[Result[Any]])
    assert_type(flatout.run([Call("Who?", output=Person)], samples=3), list[list[Result[Person]]])


def a_table_keeps_its_type(frame: Place) -> None:
    assert_type(answer(frame, "Where is {{ name }}?", model="local", output=Person), Place)
    assert_type(embed(frame, "name", model="openai/text-embedding-3-small"), Place)
    assert_type(Answers("{{ name }}", model="local"), Answers)


def misspelt_names_are_found() -> None:
    _ = flatout.Clent  # type: ignore[attr-defined]
    _ = flatout.sdk.opnai  # type: ignore[attr-defined]
    _ = flatout.testing.ProviderModle  # type: ignore[attr-defined]


if TYPE_CHECKING:
    from flatout.edge.stream import Stream

    async def measure(item: str, client: Client) -> int:
        return len((await client.call(item)).text)

    async def functions_keep_their_types(client: Client) -> None:
        async for result in client.map(measure, ["a"]):
            assert_type(result, Result[int])
