"""Runs in batches of every provider's form: submitted, collected and written, whatever goes wrong on the way.

Nothing here knows a form from within: the simulated provider's own account says what was run and paid for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatout import ConfigError
from flatout.errors import ProtocolError
from flatout.layer import Request, Response
from tests.support.batch_world import FORMS, World

MakeWorld = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    def made(form: str, folder: Path = tmp_path, **settings: Any) -> World:
        return World(form, folder, monkeypatch, **settings)

    return made


TROUBLE: dict[str, dict[str, Any]] = {
    "none": {},
    "rows that no result mentions, and rows that fail": {"faults": {"missing": 0.2, "failed": 0.2}},
    "batches that expire with answers": {"faults": {"expires": 0.6}},
    "batches that never end": {"faults": {"stuck": 0.3}},
    "states that nobody knows, and results that break off": {"faults": {"unknown_state": 0.7, "cut": 0.5}},
    "results that end early": {"faults": {"short": 0.3}},
    "answers that are lost": {"faults": {"lost": 0.4}},
    "a queue that fails batches": {"enqueued_tokens": 400, "when_full": "fails"},
    "a queue that refuses batches": {"enqueued_tokens": 400, "when_full": "refused"},
    "a queue that lets batches wait": {"enqueued_tokens": 400, "when_full": "waits"},
    "a queue that is too small for one batch": {"enqueued_tokens": 60},
}


SAME = ("openai-responses", "azure", "groq")
"""Forms that are OpenAI's but for addresses and limits."""

each_form = pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.soak) if form in SAME else form for form in FORMS]
)


@pytest.mark.parametrize("form", SAME)
def test_forms_like_openai_s(world: MakeWorld, form: str) -> None:
    """No row would be answered by this provider."""
    job = world(form, faults={"missing": 0.1, "cut": 0.2})
    assert job.run().unfinished == 0
    job.check()


@pytest.mark.parametrize("trouble", TROUBLE)
@each_form
def test_every_row_is_answered_once(world: MakeWorld, form: str, trouble: str) -> None:
    """Rows would be lost, mixed up, or paid for twice with this provider."""
    job = world(form, **TROUBLE[trouble])
    assert job.run().unfinished == 0
    job.check()
    if trouble == "none" and form != "xai":  # whose results cannot be deleted
        assert job.model.stats()["batches"]["files"] == 0


@pytest.mark.parametrize("no_file", ["null", "empty", "absent"])
@pytest.mark.parametrize("form", ["openai", "together"])
def test_a_batch_without_a_file_of_errors(world: MakeWorld, form: str, no_file: str) -> None:
    """A file without a name would be fetched again and again."""
    job = world(form, no_file=no_file)
    assert job.run().unfinished == 0
    job.check()
    assert not any("/files//" in request for request in job.transport.requests)


@pytest.mark.parametrize("named", [True, False])
@each_form
def test_a_row_that_the_provider_refuses_fails_alone(world: MakeWorld, form: str, named: bool) -> None:
    """One bad row would keep all rows of its batch from being answered."""
    job = world(form, faults={"poison": 0.15}, names_lines=named)
    assert job.run().unfinished == 0
    assert 0 < len(job.check(wrong="InvalidRequest")) < 10


@each_form
def test_a_process_that_dies_again_and_again(world: MakeWorld, form: str) -> None:
    """What the dead process had submitted would be lost, or submitted twice."""
    job = world(form)
    assert job.run_to_the_end(deaths=12, one_in=9).unfinished == 0
    job.check()
    assert job.fate.deaths >= 12


@each_form
def test_another_key_does_not_know_the_batches(world: MakeWorld, form: str) -> None:
    """The provider answers 404 to another key: the batches would be given up, and their rows paid for twice."""
    job = world(form)
    assert job.run(detach=True).batches == 4
    job.key, asked = "another", len(job.transport.requests)
    with pytest.raises(ConfigError, match="with another key"):
        job.run(detach=True)
    assert len(job.transport.requests) == asked
    job.key = "k"
    job.clock += 40_000.0
    assert job.run(detach=True).unfinished == 0
    job.check()


@each_form
def test_a_batch_that_is_not_found_for_a_while(world: MakeWorld, form: str) -> None:
    """One 404 would cost the rows of a batch that runs, and they would be paid for twice."""
    job, left = world(form), [5]

    def instead(request: Request) -> Response | None:
        if request.method == "GET" and left[0]:
            left[0] -= 1
            return Response(404, {}, b'{"error": {"message": "no such batch", "code": 5, "status": "NOT_FOUND"}}')
        return None

    job.transport.instead = instead
    assert job.run().unfinished == 0
    job.check()
    assert left == [0]


@each_form
def test_answers_that_are_garbage(world: MakeWorld, form: str) -> None:
    """A run of a day would end with one broken answer, or create a batch twice."""
    job, seen = world(form), [0]

    def instead(_: Request) -> Response | None:
        seen[0] += 1
        return Response(200, {"content-type": "application/json"}, b'{"id": ') if seen[0] % 3 == 1 else None

    job.transport.instead = instead
    assert job.run().unfinished == 0
    job.check()


@pytest.mark.parametrize("done", [False, True])
@each_form
def test_what_another_run_has_under_our_names_is_left_alone(
    world: MakeWorld, form: str, tmp_path: Path, done: bool
) -> None:
    """A provider that begins anew gives our names to another run: its batches would be cancelled, its files deleted."""
    ours = world(form)
    ours.run(detach=not done, keep_files=True)
    (tmp_path / "other").mkdir()
    others = world(form, folder=tmp_path / "other", rows=30)
    others.clock = ours.clock + 1_000.0
    assert others.run(detach=True).batches == 5
    ours.transport, ours.clock = others.transport, others.clock
    ours.cancel()
    ours.run(detach=True)
    harm = [each for each in others.transport.requests if each.startswith("DELETE") or "cancel" in each]
    assert [each for each in harm if ours.mark not in each] == []
    assert others.run().unfinished == 0
    others.check()


@pytest.mark.parametrize("form", ["openai", "xai", "mistral-file", "gemini-file"])
def test_an_upload_whose_answer_is_lost_is_found_by_its_name(world: MakeWorld, form: str) -> None:
    """The rows would be uploaded twice, and one file of them left at the provider."""
    job, lost = world(form), list[str]()
    carry = job.transport.send

    async def send(request: Request) -> Response:
        answer = await carry(request)
        if b"jsonl" in request.body[:500] and not lost:
            lost.append(request.url)
            raise ProtocolError("the server closed the connection without an answer")
        return answer

    job.transport.send = send  # type: ignore[method-assign]
    assert job.run().unfinished == 0
    job.check()
    assert job.transport.requests.count(f"POST {lost[0]}") == 4
