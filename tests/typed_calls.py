"""What a type checker must see of calls and results. Checked by mypy with the sources; it is never run."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, assert_type

from pydantic import BaseModel

import flatout
from flatout import Call, Client, Reply, Result


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
    assert_type(results[0].output, Person | None)
    assert_type(await client.call(Call("Where?", output=Place)), Reply[Place])
    assert_type(await client.gather([Call("Which?", output=Row)], samples=2), list[list[Result[Row]]])
    assert_type(await client.gather([Call("How?", output=Mood)], models=["a", "b"]), list[Result[Mood]])
    assert_type(await client.gather([Call("Who all?", output=list[Person])]), list[Result[list[Person]]])
    async for result in client.as_completed([Call("Who?", output=Person)]):
        assert_type(result.output, Person | None)


async def everything_else_needs_no_annotation(client: Client) -> None:
    prompts = ["a", "b"]
    call = Call("a")
    assert_type(call, Call[Any])
    assert_type(await client.gather(prompts), list[Result[Any]])
    assert_type(await client.gather([call, "b", {"prompt": "c"}]), list[Result[Any]])
    await client.gather([Call("Spam?", output=Literal["spam", "ham"]), Call("x", output=Person | Place)])
    await client.gather([Call("x", output={"type": "object"})])
    assert_type(flatout.run(prompts, model="local"), list[Result[Any]])
    assert_type(flatout.run([Call("Who?", output=Person)], samples=3), list[list[Result[Person]]])


if TYPE_CHECKING:

    async def measure(item: str, client: Client) -> int:
        return len((await client.call(item)).text)

    async def functions_keep_their_types(client: Client) -> None:
        async for result in client.map(measure, ["a"]):
            assert_type(result.output, int | None)
