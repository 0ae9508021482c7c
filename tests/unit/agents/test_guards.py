"""The guardrails that are built in."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flatout import ConfigError, GuardrailTripped
from flatout.agents import Agent, Checked, Guardrail, Judge, Verdict, fail, guards, stop
from flatout.agents._guard import PASSED, At, judged


def verdict(rail: Guardrail, text: str) -> Verdict:
    async def ask(_: Any) -> Any:
        raise AssertionError("no model is needed")

    return asyncio.run(judged(rail.title, rail.check, Checked(at="output", text=text, ask=ask)))


PERSONAL = guards.personal_data()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("my card is 4111 1111 1111 1111, thanks", "card"),
        ("5500-0000-0000-0004", "card"),
        ("378282246310005", "card"),
        ("pay to DE89 3704 0044 0532 0130 00 PLEASE", "iban"),
        ("GB82WEST12345698765432.", "iban"),
        ("write to jane.doe+x@mail.example.co.uk!", "email"),
        ("call +49 (0) 30 1234567", "phone"),
        ("call 0049 30 123 456 78", "phone"),
        ("(212) 555-0123", "phone"),
        ("SSN 078-05-1120", "ssn"),
    ],
)
def test_personal_data_is_found(text, kind):
    """A customer's number would leave the house."""
    assert verdict(PERSONAL, text) == fail(f"it holds personal data: {kind}")
    assert verdict(guards.personal_data([kind], stop=True), text).kind == "stop"


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "order 1234567890123456 of 2024-05-06",
        "9999999999999995",
        "DE89 3704 0044 0532 0130 01",
        "RFC 2119, ISO 13616, 10.1109/5.771073",
        "a@b and @home and x@localhost",
        "000-12-3456 and 900-12-3456 and 1078-05-1120",
        "2024-05-06 12:30:45 +0200",
        "version 1.2.3.4.5.6.7.8.9.10.11.12.13.14.15",
        "pi is 3.14159265358979323846",
        "",
    ],
)
def test_harmless_numbers_are_let_through(text):
    """Dates, orders and versions would be refused as somebody's data."""
    assert verdict(PERSONAL, text) is PASSED


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_every_wrong_digit_of_a_card_is_noticed(digits):
    """Numbers that are no cards would be taken for some."""
    body = "4" + digits[:-1]
    whole = next(body + check for check in "0123456789" if guards.is_card(body + check))
    wrong = whole[:3] + str((int(whole[3]) + 1) % 10) + whole[4:]
    assert not guards.is_card(wrong)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key sk-abcdefghijklmnop1234", False),
        ("AKIAIOSFODNN7EXAMPLE", False),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", False),
        ("-----BEGIN RSA PRIVATE KEY-----", False),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", False),
        ("password=hunter22", False),
        ("The key to success is patience; ask for a token of thanks.", True),
    ],
)
def test_secrets_are_found(text, clean):
    """A key would be put out with an answer, or plain words be refused."""
    found = verdict(guards.secrets(), text)
    assert (found.kind == "pass") is clean
    assert text not in found.reason


@pytest.mark.parametrize("text", ["1" * 100_000, "a@" * 50_000, "+1 " * 30_000, "DE89 " * 20_000, "AB12" * 25_000,
                                  "1-" * 50_000, "a." * 50_000, "-" * 100_000, "x" * 100_000])  # fmt: skip
def test_hostile_texts_take_no_time(text):
    """A web page made for it would keep the process busy for minutes."""
    began = time.process_time()
    verdict(PERSONAL, text)
    verdict(guards.secrets(), text)
    assert time.process_time() - began < 5


class Row(BaseModel):
    n: int


@pytest.mark.parametrize("kind", [Row, {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}])
def test_schema(kind):
    """What a tool returns would reach the model in another shape than was agreed."""
    rail = guards.schema(kind, at=("tool_output",))
    assert verdict(rail, '{"n": 1}') is PASSED
    assert verdict(rail, '{"n": "x"}').reason.startswith("it does not fit: ")
    assert verdict(rail, "no JSON").kind == "fail"
    assert rail.at == ("tool_output",)


def test_length_and_banned():
    """The two simplest guardrails would not hold."""
    assert verdict(guards.length(3, least=2), "abcd") == fail("it has 4 characters; at most 3 are allowed")
    assert verdict(guards.length(3, least=2, stop=True), "a") == stop("it has 1 characters; at least 2 are needed")
    assert verdict(guards.length(3, least=2), "abc") is PASSED
    assert verdict(guards.banned("foo", r"b\w+r"), "BAR") == fail(r"it holds what is banned: b\w+r")
    assert verdict(guards.banned("foo"), "bar") is PASSED
    assert verdict(guards.banned(["foo", "bar"]), "bar") == fail("it holds what is banned: bar")
    assert verdict(guards.personal_data("email"), "a@b.example").kind == "fail"


def test_wrong_guardrails_are_refused_at_once():
    """A mistake in a guardrail would show in the middle of a run, or never."""
    for make in (
        lambda: guards.banned(),
        lambda: guards.banned("("),
        lambda: guards.personal_data(["dna"]),
        lambda: Guardrail("no function"),
        lambda: Guardrail(lambda _: True, at=()),
        lambda: Guardrail(lambda _: True, at="output"),
        lambda: Guardrail(lambda _: True, at=("nowhere",)),
    ):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match=r'at=\("tool_input",\)'):
        Guardrail(lambda _: True, at="tool_input")  # type: ignore[arg-type]  # as users write it
    with pytest.raises(ConfigError, match=r'banned\("foo", '):
        guards.banned([5])  # type: ignore[list-item]  # made on purpose


def test_a_judge_without_sources_asks_nobody():
    """An answer out of nothing would cost a judge's call, and might be believed."""
    rail = guards.grounded()
    assert verdict(rail, "x") == fail("it rests on no source")
    assert rail.pure
    assert Guardrail.of(Judge("it is polite")).pure
    assert Guardrail.of(Judge("it is polite", name="polite")).title == "polite"


def test_verdicts_of_plain_functions():
    """A function that says yes or no would need classes; one that says nothing would pass everything."""
    named = Guardrail(lambda checked: checked.text == "x", name="is x")
    assert verdict(named, "x") is PASSED
    assert verdict(named, "y") == fail("is x says no")
    with pytest.raises(GuardrailTripped, match="returned NoneType, which is not a verdict"):
        verdict(Guardrail(lambda _: None), "x")


def by_tool(checked: Checked) -> bool:
    return checked.tool != "pay"


def within(checked: Checked) -> bool:
    return any(checked.tool == name for name in ("pay", "delete"))


class Watch:
    def by_tool(self, checked: Checked) -> bool:
        return checked.tool != "pay"

    def __call__(self, checked: Checked) -> bool:
        return checked.tool != "pay"


def listed(checked: Checked) -> bool:
    return not [name for name in ("pay", "delete") if checked.tool == name]


def named(name: str, checked: Checked) -> bool:
    return checked.tool != name


LOOKING = [
    by_tool,
    within,
    listed,
    Watch().by_tool,
    Watch(),
    partial(named, "pay"),
    lambda checked: checked.tool != "pay",
]


@pytest.mark.parametrize("check", LOOKING)
def test_a_guardrail_that_looks_at_what_its_place_has_not_is_refused(check: Any) -> None:
    """A guardrail that is to keep an agent from paying would silently never do so."""
    with pytest.raises(ConfigError, match=r'reads \.tool, .* at output: .*at=\("tool_input", "tool_output",\)'):
        Agent(guardrails=[check])
    Agent(guardrails=[Guardrail(check, at=("tool_input",)), Guardrail(check, at=("output", "tool_output"))])


def test_every_place_is_known_for_what_it_has_not() -> None:
    """The same would hold for a tool's value, or for sources where there are none yet."""

    def value(checked: Checked) -> bool:
        return bool(checked.value)

    def sources(checked: Checked) -> bool:
        return bool(checked.sources)

    def plain(checked: Checked) -> bool:
        tool = SimpleNamespace(tool=1).tool
        return bool(tool and checked.text and checked.at and checked.intent)

    for check, at in ((value, "tool_output"), (sources, "input"), (Judge("x", sources=True), "input")):
        with pytest.raises(ConfigError, match="does not exist at"):
            Guardrail(check, at=(at,))
    for check in (plain, Judge("x"), print):
        for at in get_args(At):
            Guardrail(check, at=(at,))
