"""One limit for several processes, against a provider in a process of its own."""

from __future__ import annotations

import time

from tests.support.command_samples import eventually
from tests.support.limited_programs import BURST, RPM, programs, reset, stats, use

PROCESSES = 4


def test_four_processes_share_one_limit_use_it_and_never_hit_it(tmp_path):
    """Four runs side by side would be refused three times in four, or leave each other's share unused."""
    with programs(tmp_path, "--rpm", str(RPM), "--burst", str(BURST), "--latency", "0.05") as four:
        four.start(PROCESSES, rpm=RPM)
        four.wait_until_busy()
        time.sleep(2.0)
        admitted = four.watch(8.0)
        four.wait(range(PROCESSES))
        assert stats(four.url)["refused"] == 0
        assert use(admitted, four.still(), PROCESSES) >= 0.96


def test_processes_find_an_unknown_limit_together_though_one_is_killed(tmp_path):
    """Each would climb into it by itself, and the one that was killed take what they know with it."""
    with programs(tmp_path, "--rpm", str(RPM), "--burst", "1", "--latency", "0.05") as four:
        four.start(PROCESSES)
        four.wait_until(400)  # they have found it, and used it for some seconds
        four.kill(0)
        before = stats(four.url)
        time.sleep(1.0)
        admitted = four.watch(16.0)
        four.wait(range(1, PROCESSES))
        seen = stats(four.url)
        late = RPM / 60 * max((to - since for since, to in four.still()), default=0.0)  # before a refusal was heard of
        assert before["refused"] <= 64 + late  # what finding it costs once, and not four times
        answered = seen["answered"] - before["answered"]
        assert seen["refused"] - before["refused"] <= 0.01 * answered + late
        assert use(admitted, four.still(), PROCESSES - 1) >= 0.95


def test_processes_share_slots_and_get_those_of_one_that_is_killed(tmp_path):
    """A server of eight slots would be sent eight by each, or have fewer and fewer after each kill -9."""
    with programs(tmp_path, "--latency", "0.5") as four:
        four.start(PROCESSES, concurrency=8)
        four.wait_until(30)
        assert stats(four.url)["most_in_flight"] <= 8
        four.kill(0)
        for _ in range(2):  # before it answers, the provider hears that what the program had in flight is given up
            stats(four.url)
        reset(four.url)
        eventually(lambda: stats(four.url)["in_flight"] == 8)
        four.wait(range(1, PROCESSES))
        assert stats(four.url)["most_in_flight"] == 8
