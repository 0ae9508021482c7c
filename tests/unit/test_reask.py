"""Answers that do not fit: asked for again with what is wrong, then saved if there is anything to save."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from flatout import Call, DeadlineExceeded, Reply, SchemaMismatch, Truncated
from flatout.layer import Response
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client, completion, refusal


class Person(BaseModel):
    name: str
    age: int


GOOD = '{"name": "Ada", "age": 36}'
CUT = '{"name": "Ada", "age": 36, "friends": ["Char'


def cut_off(text: str) -> Response:
    """An answer that ended at the token limit."""
    body = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5},
    }
    return Response(200, {}, json.dumps(body).encode())


def asked(call: Call, *answers: Any, **options: Any) -> tuple[Any, list[list[dict[str, Any]]]]:
    """The result of a call, and the conversations that were sent for it."""
    left: Iterator[Any] = iter(answers)
    wire = Wire(lambda _: next(left))

    async def main() -> Any:
        async with client(wire, **options) as made:
            return await made.result(call)

    result = run_virtual(main())
    return result, [json.loads(request.body)["messages"] for request in wire.requests]


def test_the_model_hears_what_is_wrong_with_its_answer():
    """It would be asked the same question again, and paid for the same answer."""
    result, sent = asked(Call("Who?", output=Person, id="a"), '{"name": "Ada"}', GOOD)
    assert result.output == Person(name="Ada", age=36)
    assert result.call.prompt == "Who?"
    assert result.attempts == 2
    first, second = sent
    assert second[: len(first)] == first
    assert second[-2] == {"role": "assistant", "content": '{"name": "Ada"}'}
    assert "age" in second[-1]["content"]


def test_an_answer_that_does_not_fit_is_in_flight_no_more(tmp_path):
    """A row that waits until it may be asked again would be shown as on the wire, for minutes."""
    left: Iterator[Any] = iter(['{"name": "Ada"}', GOOD])

    async def main() -> None:
        async with client(Wire(lambda _: next(left))) as made:
            await made.gather([Call("Who?", output=Person)], store=tmp_path / "a.flatout")

    run_virtual(main())
    with closing(sqlite3.connect(tmp_path / "a.flatout")) as connection:
        assert connection.execute("SELECT attempt, failed FROM attempts").fetchall() == [(1, 1), (2, 0)]


def test_it_is_asked_again_once_and_no_more():
    """An answer that never fits would be paid for without end."""
    result, sent = asked(Call("Who?", output=Person), "no", "no", "no", GOOD)
    assert isinstance(result.error, SchemaMismatch)
    assert result.error.attempts == result.attempts == len(sent) == 2


@pytest.mark.parametrize(("options", "own", "requests"), [({"reasks": 0}, None, 1), ({}, 0, 1), ({"reasks": 0}, 2, 3)])
def test_how_often_can_be_chosen(options, own, requests):
    """Whoever counts pennies could not switch it off."""
    _, sent = asked(Call("Who?", output=Person, reasks=own), *["no"] * 4, **options)
    assert len(sent) == requests


@pytest.mark.parametrize(
    "readable",
    [f"Here it is: {GOOD}. Anything else?", GOOD.replace("}", ",}"), '{"name": "Ada\n\tLovelace", "age": 36}'],
)
def test_what_can_be_read_is_not_paid_for_twice(readable):
    """Another answer would be paid for over two words before the first, a comma, or a line break."""
    result, sent = asked(Call("Who?", output=Person), readable, "I cannot.")
    assert result.output.age == 36
    assert result.reply.repaired
    assert len(sent) == 1


UNFINISHED = CUT.replace("36,", "37,")


@pytest.mark.parametrize("worse", [refusal(400), refusal(500), "I cannot.", '{"na', ""])
def test_a_readable_answer_is_not_lost_to_what_comes_after_it(worse):
    """A run would lose what it has paid for because it asked for something better."""
    result, sent = asked(Call("Who?", output=Person), UNFINISHED, worse, worse, retries=0)
    assert result.output == Person(name="Ada", age=37)
    assert result.reply.repaired
    assert len(sent) == 2


def test_a_readable_answer_is_not_lost_to_the_deadline():
    """The second answer would take with it the first one, which lay there all the time."""
    result, _ = asked(Call("Who?", output=Person, deadline=10), UNFINISHED, 60.0)
    assert result.output == Person(name="Ada", age=37)


@pytest.mark.parametrize("after", [[60.0], [refusal(500)] * 9, [refusal(500), 60.0], [refusal(400)]])
def test_a_readable_answer_is_not_lost_to_attempts_after_it(after):
    """What is asked again because it broke off, or tried again after that, would take with it what had been said."""
    result, sent = asked(Call("Who?", output=Person, deadline=30), UNFINISHED, *after)
    assert result.output == Person(name="Ada", age=37)
    assert len(sent) > 1


def test_a_readable_answer_at_the_token_limit_is_paid_for_once():
    """The same part would be paid for three times, and be the answer in the end."""
    result, sent = asked(Call("Who?", output=Person), *[cut_off(CUT)] * 9)
    assert result.output == Person(name="Ada", age=36)
    assert len(sent) == 1


def test_what_the_model_said_stays_with_the_deadlines_error():
    """Nobody could see what was paid for, once another attempt had failed before time was up."""
    result, _ = asked(Call("Who?", output=Person, deadline=10), "I cannot.", refusal(500), 60.0)
    assert isinstance(result.error, DeadlineExceeded)
    assert result.error.reply.text == "I cannot."


def test_an_answer_that_was_cut_off_gives_way_to_a_whole_one():
    """A part of an answer would be taken where the whole one can be had."""
    result, sent = asked(Call("Who?", output=Person), UNFINISHED, GOOD)
    assert result.output == Person(name="Ada", age=36)
    assert not result.reply.repaired
    assert len(sent) == 2


@pytest.mark.parametrize("after", [refusal(500), 60.0])
def test_what_the_model_said_stays_with_the_error(after):
    """Nobody could see what was paid for before the second attempt failed."""
    result, _ = asked(Call("Who?", output=Person, deadline=10), "I cannot.", after, retries=0)
    assert not result.ok
    assert result.error.reply.text == "I cannot."


THOUGHT = "<think>{} No: he is older.</think>\n{}"


def test_a_thought_is_no_part_of_the_answer():
    """Answers of models that think in the open would be refused, or a draft be taken for the answer."""
    result, sent = asked(Call("Who?", output=Person), THOUGHT.format('{"name": "Ada", "age": 30}?', GOOD))
    assert result.output == Person(name="Ada", age=36)
    assert result.reply.reasoning == '{"name": "Ada", "age": 30}? No: he is older.'
    assert result.text.strip() == GOOD
    assert not result.reply.repaired
    assert len(sent) == 1


def test_an_answer_that_was_cut_off_is_saved_and_marked():
    """JSON that lacks its last brace would be lost with all that is in it."""
    result, _ = asked(Call("Who?", output=Person), *[cut_off(CUT)] * 9)
    assert result.output == Person(name="Ada", age=36)
    assert result.reply.repaired


def test_nothing_is_made_up():
    """A text cut off in the middle would pass for the whole one."""
    half = {
        "choices": [{"message": {"role": "assistant", "content": '{"name": "Ad'}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5},
    }
    result, _ = asked(Call("Who?", output=Person), *[Response(200, {}, json.dumps(half).encode())] * 9)
    assert isinstance(result.error, Truncated)


def test_a_good_answer_is_not_marked():
    """A mark that stands everywhere says nothing."""
    result, sent = asked(Call("Who?", output=Person), GOOD)
    assert not result.reply.repaired
    assert len(sent) == 1


def test_one_of_several_choices():
    """A bare word, as models answer, would be no answer."""
    call = Call("Spam?", output=Literal["spam", "ham"], reasks=0)
    for text in ("ham", "<think>spam or ham?</think>\n\nham", "spam, no: ham.</think>ham"):
        result, _ = asked(call, text)
        assert result.output == "ham"


@pytest.mark.parametrize(
    "text", ["<think>ham</think>", "<think>ham", "ham</think>It depends.", "<think>ham</think>spam?"]
)
def test_a_choice_that_was_only_thought_of_is_none(text):
    """A word that the model weighed would pass for its answer."""
    result, _ = asked(Call("Spam?", output=Literal["spam", "ham"], reasks=0), text)
    assert isinstance(result.error, SchemaMismatch)


def weather(city: str, days: int = 1) -> str:
    """Tell the weather."""
    raise NotImplementedError


def calling(arguments: str) -> Response:
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}],
    }
    body = {
        "choices": [{"message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5},
    }
    return Response(200, {}, json.dumps(body).encode())


@pytest.mark.parametrize("malformed", ['{"city": "Brno', '{"town": "Brno"}', '{"city": "Brno", "days": "many"}', "[]"])
def test_malformed_arguments_of_a_tool_are_asked_for_again(malformed):
    """A tool would be called with arguments that it does not take."""
    result, sent = asked(Call("Weather?", tools=[weather]), calling(malformed), calling('{"city": "Brno"}'))
    assert result.reply.tool_calls[0].parsed() == {"city": "Brno"}
    assert sent[1][-1]["role"] == "tool"
    assert sent[1][-1]["tool_call_id"] == "c1"


def test_malformed_arguments_are_an_error_by_name():
    """A caller could not tell them from a broken connection."""
    result, _ = asked(Call("Weather?", tools=[weather], reasks=0), calling('{"city'))
    assert isinstance(result.error, SchemaMismatch)
    assert "weather" in str(result.error)
    assert isinstance(result.error.reply, Reply)


def test_text_beside_tools_is_left_alone():
    """An answer in words would be refused where tools are offered."""
    result, _ = asked(Call("Hi", tools=[weather]), completion("Hello."))
    assert result.text == "Hello."


def test_the_thought_goes_back_with_the_answer_that_did_not_fit():
    """A model that reasons would refuse to be asked again, or think from the beginning."""
    thought = {"role": "assistant", "content": '{"name": "Ada"}', "reasoning_content": "Whose age?"}
    body = {"choices": [{"message": thought, "finish_reason": "stop"}]}
    result, sent = asked(Call("Who?", output=Person), Response(200, {}, json.dumps(body).encode()), GOOD)
    assert result.ok
    assert sent[1][-2] == thought


@pytest.mark.parametrize("output", [None, Person])
def test_answers_that_were_cut_off_can_be_made_failures(output):
    """Where half a text is of no use, it would stand among the answers."""
    call = Call("Who?", output=output, reasks=0)
    assert asked(call, *[cut_off(CUT)] * 9, retries=0)[0].ok
    result, _ = asked(call, *[cut_off(CUT)] * 9, retries=0, fail_truncated=True)
    assert isinstance(result.error, Truncated)
    assert (result.error.reply.text, result.error.attempts) == (CUT, 1)
    if output is not None:
        late, _ = asked(Call("Who?", output=output, deadline=10), cut_off(CUT), 60.0, fail_truncated=True)
        assert isinstance(late.error, Truncated)
