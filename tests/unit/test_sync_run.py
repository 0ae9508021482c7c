"""``flatout.run``: in a script, in a notebook's running loop, and when it is interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

import flatout
from flatout import Call, ConfigError, InvalidRequest, Limits
from flatout.testing import digest_of
from tests.support.scripted_wire import Wire, refusal

SIM = {"base_url": "http://sim/v1", "config": {}, "limits": Limits(concurrency=9)}


def wire(failing: str = "") -> Wire:
    return Wire(lambda prompt: refusal(400) if prompt == failing else digest_of(prompt))


def in_a_loop(function):
    """What a notebook cell does: plain code, called while a loop runs."""

    async def cell():
        return function()

    return asyncio.run(cell())


@pytest.fixture(params=["script", "notebook"])
def place(request):
    return (lambda function: function()) if request.param == "script" else in_a_loop


def test_it_answers_in_input_order(place):
    """The library's first example would not work."""
    results = place(lambda: flatout.run(["a", {"prompt": "b"}, Call("c")], "m", transport=wire(), **SIM))
    assert [result.text for result in results] == [digest_of(prompt) for prompt in "abc"]


def test_failures_stand_in_their_results_unless_strict(place):
    """One bad row would cost a script all its answers."""
    results = place(lambda: flatout.run(["a", "bad"], "m", transport=wire("bad"), **SIM))
    assert [result.ok for result in results] == [True, False]
    with pytest.raises(InvalidRequest):
        place(lambda: flatout.run(["a", "bad"], "m", transport=wire("bad"), strict=True, **SIM))


@pytest.mark.parametrize("more", [{}, {"model": "any"}, {"samples": 2}])
def test_calls_of_which_none_can_be_sent_are_refused(place, more):
    """A script whose model is missing or misspelt would get its errors in two ways, one of them easy to overlook."""
    for calls in (["a", {"prompt": "b"}], [Call("c")]):
        with pytest.raises(ConfigError, match=r"no model: name one|names no provider"):
            place(lambda calls=calls: flatout.run(calls, transport=wire(), config={}, **more))
    assert flatout.run([], config={}) == []
    mixed = place(lambda: flatout.run(["a", Call("b", model="vllm/m")], transport=wire(), config={}))
    assert [result.ok for result in mixed] == [False, True]


def test_wrong_options_are_told_before_anything_is_sent(place):
    """A typo would be found after the first call was paid."""
    used = wire()
    with pytest.raises(ConfigError):
        place(lambda: flatout.run(["a"], "m", transport=used, timeout=-1, **SIM))
    with pytest.raises(ConfigError, match="list of calls"):
        place(lambda: flatout.run("a prompt", "m", transport=used, **SIM))
    with pytest.raises(TypeError):
        place(lambda: flatout.run(["a"], "m", transport=used, modle="x", **SIM))
    assert not used.prompts


def test_no_thread_stays_behind(place):
    """Each cell of a notebook would leave a thread."""
    before = threading.active_count()
    place(lambda: flatout.run(["a"], "m", transport=wire(), **SIM))
    with pytest.raises(InvalidRequest):
        place(lambda: flatout.run(["bad"], "m", transport=wire("bad"), strict=True, **SIM))
    assert threading.active_count() == before


def test_a_generator_of_prompts_will_do(place):
    """Rows could not be streamed from a file."""
    results = place(lambda: flatout.run((f"{n}" for n in range(5)), "m", transport=wire(), **SIM))
    assert len(results) == 5


PROGRAM = """
import asyncio, sys
import flatout

class Hanging:
    closed = active = 0
    async def send(self, request):
        self.active += 1
        if self.active == 3:
            print("ready", flush=True)
        try:
            await asyncio.sleep(3600)
        finally:
            self.active -= 1
    async def close(self):
        self.closed += 1

hanging = Hanging()

def main():
    try:
        flatout.run(["a", "b", "c"], "m", base_url="http://sim/v1", transport=hanging, config={},
                    limits=flatout.Limits(concurrency=9))
    finally:
        print("left", hanging.active, hanging.closed, flush=True)

async def cell():
    main()

"""
STARTS = {
    "script": "main()",
    "notebook": "asyncio.run(cell())",
    "notebook with the default handler": """
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(cell())
finally:
    loop.close()
""",
}


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("start", STARTS)
def test_an_interrupt_ends_the_calls_and_the_program(start):
    """Ctrl-C would do nothing until all calls are answered, or leave them running and print warnings."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PROGRAM + STARTS[start]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout.readline() == "ready\n"
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=10)
        finally:
            program.kill()
    assert out == "left 0 1\n"
    assert program.returncode in (-signal.SIGINT, 130)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in err
    assert "Warning" not in err
