"""What a notebook shows of results and plans: their ``_repr_html_``."""

from __future__ import annotations

from flatout import Call, Plan, Refused, Reply, Result, Usage
from flatout.text.html import MOST
from flatout.values.plan import Range

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e&"


def test_a_result_says_what_was_asked_what_came_and_what_it_cost() -> None:
    """One would have to print five fields to judge one answer."""
    result: Result = Result(
        index=0,
        call=Call("Explain CAP."),
        reply=Reply(text="Pick two.", model="gpt-5-mini", usage=Usage(input_tokens=3, output_tokens=4)),
        attempts=2,
        cost=0.0123,
        elapsed=4.0,
        waits={"requests": 1.5, "first_byte": 2.5},
    )
    html = result._repr_html_()
    for fact in ("Explain CAP.", "Pick two.", "gpt-5-mini", "7 tokens", "$0.0123", "2 attempts"):
        assert fact in html
    assert "4.0 s, 1.5 s of it waiting" in html


def test_an_unknown_cost_is_not_shown_as_none() -> None:
    """A notebook would make a paid answer look free."""
    assert "cost unknown" in Result(index=0, call=Call("x"), reply=Reply(text="y"), attempts=1)._repr_html_()


def test_a_failure_says_why() -> None:
    """The cell would be empty."""
    html = Result(index=0, item={"id": 7}, error=Refused("it says no"), attempts=1)._repr_html_()
    assert "Refused" in html
    assert "it says no" in html
    assert "{&#x27;id&#x27;: 7}" in html


def test_other_peoples_text_stays_text() -> None:
    """An answer could run a script in the notebook, or fill it with megabytes."""
    call = Call(messages=[{"role": "user", "content": HOSTILE}], model=HOSTILE)
    for result in (
        Result(index=0, call=call, reply=Reply(text=HOSTILE + "x" * 9_999_999, model=HOSTILE), output=HOSTILE),
        Result(index=0, call=call, error=Refused(HOSTILE)),
    ):
        html = result._repr_html_()
        assert "<script" not in html
        assert "\x1b" not in html
        assert "\u202e" not in html
        assert len(html) < 3 * MOST


def test_a_plan_is_a_small_table() -> None:
    """A forecast would be a line of Python."""
    html = Plan(calls=1_000, left=990, cost=Range(p10=1.0, p50=2.0, p90=3.0))._repr_html_()
    assert "<table>" in html
    assert "1 to 3" in html
