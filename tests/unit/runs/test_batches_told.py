"""What a run in the batch lane tells its users, while it waits, after it has left its batches, and once it is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from flatout import Client, ConfigError
from flatout.cli.batch import Known, _line
from flatout.cli.ctl import _said
from flatout.cli.inspect import describe
from flatout.cli.summary import details
from flatout.lanes.batch.money import Record
from flatout.lanes.batch.targets import unpriced
from flatout.look.batches import row_in_batch
from flatout.look.course import Course
from flatout.look.facts import Facts, facts_of
from flatout.look.why import sentences
from flatout.progress._counters import Progress
from flatout.runs.cancelling import Cancelled, Cancelling
from flatout.runs.steered import SteeredRun
from flatout.store import RunFile, RunReader
from flatout.store.ledger import MONEY
from flatout.testing import run_virtual
from flatout.testing._clock import EPOCH

from .test_batches import DAY, Job, job, small

__all__ = ["job", "small"]

STATES = "2 in progress, 2 a new state"
"""What the provider says of the four batches once they are made."""


def facts(job: Job) -> Facts:
    with RunReader.open(job.run_file) as reader:
        return facts_of(reader)


def lines(job: Job) -> Mapping[str, str]:
    """What ``flatout status`` shows."""
    return dict(describe(facts(job)))


def listed(job: Job) -> list[str]:
    """What ``flatout batch ls`` shows."""
    with RunReader.open(job.run_file) as reader:
        ledger, record = reader.ledger, Record.of(reader.fact(MONEY))
        assert ledger is not None
        counts, seen = ledger.counts(), ledger.seen()
        known = [
            Known(job.run_file, each, counts.get(each.number, {}), record.of_batch(each.number), seen.get(each.number))
            for each in ledger.batches()
        ]
    return [_line(each, EPOCH + job.now() + 60.0) for each in known]


def cancel(job: Job) -> Cancelled:
    """Give ``flatout batch cancel``."""
    with RunReader.open(job.run_file) as reader:
        described = reader.info().job
    store = RunFile.open(job.run_file, job=described)

    async def main() -> Cancelled:
        try:
            return await Cancelling(job.client(), store, "out").run()
        finally:
            store.mark("interrupted")
            await store.close()

    return run_virtual(main(), limit=DAY, start=job.now())


def test_a_run_that_has_left_its_batches_is_detached(job: Job) -> None:
    """It would be called interrupted, as if something had gone wrong, and nothing would say how to get the answers."""
    job.run(detach=True, command="flatout run in.jsonl")
    found = facts(job)
    assert found.state == "detached"
    assert found.batches is not None
    assert (found.batches.open, found.batches.rows, found.batches.states) == (4, 60, STATES)
    shown = lines(job)
    assert shown["to collect"] == "flatout run in.jsonl"
    assert shown["batches"].startswith(f"4 open, with 60 rows: {STATES}, ")
    [why] = sentences(Course(), found, EPOCH + job.now())
    assert "4 batches with 60 rows are at openai/gpt-5-mini, the oldest since" in why
    assert why.endswith("The same command collects them.")


def test_the_list_of_batches_says_how_the_provider_has_them(job: Job) -> None:
    """A user would have to look at the provider's own page to learn whether a batch runs at all."""
    job.run(detach=True)
    assert all(
        re.search(r" batch_\d, (in progress|a new state), [\d.]+ .* old, as seen [\d.]+ .* ago$", line)
        for line in listed(job)
    )
    job.run()
    assert all(re.search(r", ended after .*, (16|12) collected, \$", line) for line in listed(job))


def test_a_row_that_waits_in_a_batch_is_told_with_it(job: Job) -> None:
    """``flatout cache why`` and ``flatout trace`` would say that the row has no result, and no more."""
    job.run(detach=True)
    with RunReader.open(job.run_file) as reader:
        row = row_in_batch(reader, 20)
        assert row is not None
        assert row.in_words(row.batch.intended_at + 60.0) == (
            "in batch 2 of openai/gpt-5-mini (batch_1): a new state, 1 min 00 s old"
        )
    job.run()
    with RunReader.open(job.run_file) as reader:
        row = row_in_batch(reader, 20)
        assert row is not None
        assert row.in_words(0.0) == "stood in batch 2 of openai/gpt-5-mini (batch_1)"


def test_answers_of_cancelled_batches_count_at_once(job: Job) -> None:
    """They are paid for; status would show a run that has answered nothing, for nothing."""
    job.run(detach=True, command="flatout run in.jsonl")
    for each in list(job.wire.jobs.values())[:2]:
        each["ends_at"] = 0.0
    done = cancel(job)
    assert (done.answers, done.left, done.unknown_costs) == (32, 0, 0)
    assert done.cost > 0.0
    found = facts(job)
    assert (found.state, found.finished, found.cost) == ("interrupted", 0, pytest.approx(done.cost))
    shown = lines(job)
    assert "32 answers here that the next run keeps; $" in shown["batches"]
    assert shown["cost"].startswith("$")
    assert "16 answered, and kept when the run continues, $" in listed(job)[0]
    assert ", 16 expired" in listed(job)[2]
    job.run()
    job.check()
    again = facts(job)
    assert again.batches is not None
    assert (again.batches.answers, again.batches.unread) == (0, 0.0)
    assert again.cost == pytest.approx(again.batches.cost)


def test_the_end_of_a_run_says_how_long_its_batches_took(job: Job) -> None:
    """It would boast of 578 calls a second, which is how fast results were read from a file."""
    end = job.run()
    assert job.runner is not None
    told = dict(details(job.runner.progress, end))
    assert re.match(r"4 batches with 60 rows collected after \d+ min \d\d s to \d+ min \d\d s$", told["batches"])
    assert "speed" not in told
    assert facts(job).rate is None


@pytest.mark.parametrize("lane", ["batch", "auto"])
def test_a_time_that_is_refused_leaves_nothing_behind(job: Job, lane: Any) -> None:
    """The next command would meet a run file of a run that never was, or a time that began with the refused one."""
    with pytest.raises(ConfigError):
        job.run(lane=lane, within=60.0)
    assert not job.run_file.exists()
    job.run(detach=True)
    with pytest.raises(ConfigError, match="live"):
        job.run(lane=lane, within=60.0, fresh=True)
    assert sorted(each.name for each in job.folder.iterdir() if each.suffix == ".flatout") == ["out.jsonl.flatout"]


def test_a_run_with_a_time_says_when_its_rows_go_on(job: Job) -> None:
    """Nobody would know that rows are about to be asked at twice the price."""
    job.wire.seconds = 4 * DAY
    job.run(within=2 * DAY, detach=True)
    found = facts(job).batches
    assert found is not None
    assert found.leaves_at is not None
    assert DAY < found.leaves_at - (found.oldest or 0.0) < 2 * DAY
    job.later = 2 * DAY
    job.run(within=2 * DAY)
    assert facts(job).lane == "live"


def test_the_progress_says_how_batches_are(job: Job) -> None:
    """The live line would count batches, and not say whether they run."""
    job.run(detach=True)
    assert job.runner is not None
    progress: Progress = job.runner.progress
    assert (progress.batches.open, progress.batches.states, progress.batches.took) == (4, STATES, None)


def test_the_progress_says_that_rows_are_uploaded(job: Job) -> None:
    """A run that sends 200 MB for minutes would look as if it waited for the provider."""
    told: dict[str, str] = {}

    def ask(what: str) -> None:
        if what.startswith("before POST ") and what not in told:
            assert job.runner is not None
            job.runner.refresh()
            told[what] = job.runner.progress.batches.states

    job.wire.on_event = ask
    job.run(detach=True)
    assert told["before POST /files"] == "uploading"
    assert told["before POST /batches"] == "being submitted"


def ends_by(job: Job, *, drain: bool) -> list[Any]:
    """Tell a run to end once it has asked for its batches, as ``flatout ctl`` does. Returns what is answered."""
    answers: list[Any] = []

    def ask(what: str) -> None:
        if what.startswith("after GET /batches/") and not answers:
            assert job.runner is not None
            steered = SteeredRun(job.runner, "out", lambda: 0.0)
            with pytest.raises(ConfigError, match="in batches"):
                steered({"do": "pause", "by": "ada"})
            answers.append(steered({"do": "drain" if drain else "stop", "by": "ada"}))
            answers.append(steered({"do": "status", "by": "ada"}))

    job.wire.on_event = ask
    answers.append(job.run())
    job.wire.on_event = lambda _: None
    return answers


def test_a_run_that_is_stopped_leaves_its_batches(job: Job) -> None:
    """It would wait for a day, although it was told to end; or its answers would be lost."""
    said, status, end = ends_by(job, drain=False)
    assert (said["state"], said["batches"], said["rows"]) == ("stopping", 4, 60)
    assert (status["batches"]["open"], status["batches"]["rows"]) == (4, 60)
    assert (end.interrupted, end.under_way, end.batches) == (True, True, 4)
    assert facts(job).state == "detached"
    assert "detached: 4 batches with 60 rows at the provider go on" in _said("stop", "out.jsonl", said)
    assert job.run().unfinished == 0
    job.check()


def test_a_run_that_drains_keeps_what_its_batches_answer(job: Job) -> None:
    """It would leave at once, or never; or ask again what did not fit, for more money."""
    job.wire.fate = lambda prompt: "missing" if prompt == "prompt 7" else "answered"
    said, status, end = ends_by(job, drain=True)
    assert said["state"] == status["state"] == "draining"
    assert "waits for 4 batches with 60 rows, and submits no more" in _said("drain", "out.jsonl", said)
    assert (end.interrupted, end.unfinished, end.batches) == (True, 1, 0)
    assert len(job.wire.jobs) == 4
    job.wire.fate = lambda _: "answered"
    assert job.run().unfinished == 0
    assert len(job.wire.jobs) == 5
    job.check()


def test_batches_without_a_price_of_their_own_are_named() -> None:
    """Somebody would take batches for half the price, and be told twice what they cost."""
    prices = {"127.0.0.1/m": {"input": 1.0, "output": 2.0}}
    note = unpriced(Client("m", base_url="http://127.0.0.1/v1", config={"prices": prices})._engine, None)
    assert 'give theirs in flatout.toml, as [prices."127.0.0.1/m@batch"]' in note
    prices["127.0.0.1/m@batch"] = {"input": 0.5, "output": 1.0}
    assert unpriced(Client("m", base_url="http://127.0.0.1/v1", config={"prices": prices})._engine, None) == ""
    assert unpriced(Client("openai/gpt-5-mini", api_key="k", config={})._engine, None) == ""
