"""Targets that refuse every call are left alone."""

from __future__ import annotations

import asyncio

import pytest

from flatout import AuthenticationError, Call, CircuitOpen, Reply
from flatout.layers.health import Health
from flatout.policies.failures.service import LOOK_AGAIN, Service
from flatout.testing import run_virtual


def asked(service: Service, times: list[float]) -> list[object]:
    """What becomes of calls at these times, and how often the target was asked."""

    async def main() -> list[object]:
        layer, outcomes = Health(service), []

        async def target(call: Call) -> Reply:
            return Reply(text="fine")

        for at in times:
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            try:
                outcomes.append((await layer(Call("x"), target)).text)
            except CircuitOpen as error:
                outcomes.append(error)
        return outcomes

    return run_virtual(main())


def test_calls_pass_while_nothing_is_wrong():
    """Every call would be held back."""
    assert asked(Service("chat"), [0.0, 1.0]) == ["fine", "fine"]


def test_a_stopped_target_takes_no_calls_but_a_look_now_and_then():
    """Ten thousand calls would each be refused for the same wrong key; or none ever be sent again."""
    service, cause = Service("chat", "m"), AuthenticationError("wrong key", status=401)
    service.close(cause, 1, 0.0)
    first, second, look, last = asked(service, [0.0, LOOK_AGAIN - 1, LOOK_AGAIN + 1, LOOK_AGAIN + 2])
    assert look == "fine"
    for error in (first, second, last):
        assert isinstance(error, CircuitOpen)
        assert str(error) == "not sent: m is stopped: wrong key"
        assert error.__cause__ is cause
    assert first is not second  # one for each call, or tracebacks pile up


@pytest.mark.parametrize("stopped", [False, True])
def test_its_repr_shows_its_state(stopped):
    """A stuck program could not be looked into."""
    service = Service("chat")
    if stopped:
        service.close(AuthenticationError("no"), 1, 0.0)
    assert repr(Health(service)) == f"Health(Service(chat, {'stopped' if stopped else 'running'}))"
