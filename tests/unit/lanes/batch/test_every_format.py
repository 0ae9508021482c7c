"""What holds for every form of batch endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import ProtocolError
from flatout.lanes.batch.format import BatchFormat, Job
from flatout.lanes.batch.formats.wire import segment
from flatout.lanes.offers import batch_format
from flatout.layer import Request, Response

from .support import KEY, answer, lines, read, target

PROVIDERS = [
    *("openai", "openai-responses", "azure", "groq", "together", "anthropic", "mistral", "gemini", "openrouter"),
    *("fireworks", "xai"),
]

ORIGINS = {
    "openai": "https://api.openai.com/",
    "openai-responses": "https://api.openai.com/",
    "azure": "https://r.openai.azure.com/",
    "groq": "https://api.groq.com/",
    "together": "https://api.together.xyz/",
    "anthropic": "https://api.anthropic.com/",
    "mistral": "https://api.mistral.ai/",
    "gemini": "https://generativelanguage.googleapis.com/",
    "openrouter": "https://openrouter.ai/",
    "fireworks": "https://api.fireworks.ai/v1/accounts/mine/",
    "xai": "https://api.x.ai/",
}


def made(provider: str) -> BatchFormat:
    return batch_format(target(provider, base_url="https://r.openai.azure.com" if provider == "azure" else None))


def written(provider: str, rows: list[tuple[str, dict[str, Any]]]) -> bytes:
    """A file of results with answers."""
    if provider != "xai":
        return b"".join(line_of(provider, key, body) for key, body in rows)
    results = [
        {"batch_request_id": key, "batch_result": {"response": {"chat_get_completion": body}}} for key, body in rows
    ]
    return json.dumps({"results": results, "pagination_token": None}).encode()


def a_file(provider: str) -> str | None:
    """A name of such a file."""
    return "https://store.example/f" if provider == "fireworks" else "f"


def line_of(provider: str, key: str, body: dict[str, Any]) -> bytes:
    """A line of results with an answer."""
    if provider == "fireworks":
        line: dict[str, Any] = {"custom_id": key, "response": {"choices": [], **body}}
    elif provider == "anthropic":
        line = {"custom_id": key, "result": {"type": "succeeded", "message": body}}
    elif provider == "gemini":
        line = {"key": key, "response": body}
    else:
        line = {"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(line).encode() + b"\n"


NAMES = [
    *(
        "id",
        "name",
        "status",
        "state",
        "processing_status",
        "request_counts",
        "results_url",
        "output_file_id",
        "errors",
    ),
    *("error_file_id", "output_file", "error_file", "input_files", "metadata", "created_at", "createTime", "data"),
    *("error", "response", "batchStats", "requestCount", "inlinedResponses", "responsesFile", "results", "job", "line"),
    *(
        "batch_id",
        "cancel_by_xai_message",
        "num_requests",
        "num_pending",
        "batch_request_id",
        "batch_result",
        "jobProgress",
    ),
    *("outputRows", "filenameToSignedUrls", "outputDatasetId", "pagination_token", "chat_get_completion", "choices"),
    *("operations", "batches", "custom_id", "key", "code", "message", "result", "type", "body", "status_code", "done"),
]
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
_WORDS = st.sampled_from(["completed", "FAILED", "ended", "expired", "JOB_STATE_SUCCEEDED", "succeeded", "SUCCESS"])
_VALUES = st.recursive(
    _LEAVES | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=15,
)
_OBJECTS = st.dictionaries(st.sampled_from(NAMES), _VALUES, max_size=8)


@pytest.mark.parametrize("provider", PROVIDERS)
@given(data=_OBJECTS | _VALUES, status=st.sampled_from([200, 202, 400, 404, 409, 429, 500]))
def test_any_answer_is_read_or_a_named_error(provider: str, data: Any, status: int) -> None:
    """A new field or a strange value would end a run that has paid for its answers."""
    batch = made(provider)
    response = answer(data, status)
    said = batch.refused(response)
    assert (said is None) == (status < 300)
    uploaded, listed = lambda response: batch.uploaded("s", response), lambda response: batch.listed(response, None)
    for ask in (batch.job, uploaded, listed):
        try:
            ask(response)
        except ProtocolError:
            continue
    try:
        job = batch.job(response)
    except ProtocolError:
        return
    assert isinstance(job, Job)
    assert job.id
    assert job.state != "open" or not (job.files or job.inline)
    assert (job.state == "failed") == (job.refusal is not None)
    assert all(name.strip() for name in job.files)
    if job.inline:
        read_or_refused(batch, job.inline)


def read_or_refused(batch: BatchFormat, data: bytes, file: str | None = None) -> None:
    reader = batch.reader(file)
    try:
        found = read(reader, data)
    except ProtocolError:
        return
    assert all(one.key or one.position is not None for one in found)
    for more in reader.more:
        try:
            assert isinstance(batch.results(more), Request)
        except ProtocolError:
            continue


@pytest.mark.parametrize("provider", PROVIDERS)
@given(data=st.lists(_OBJECTS | _VALUES, max_size=4))
def test_any_line_is_a_row_or_a_named_error(provider: str, data: list[Any]) -> None:
    """One strange line would end a run, and with it the rows behind it."""
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in data)
    for file in ("f", a_file(provider)):
        read_or_refused(made(provider), lines, file)
        read_or_refused(made(provider), lines.partition(b"\n")[0], file)


_BODIES = st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers() | st.none(), min_size=1, max_size=3)


@pytest.mark.parametrize("provider", PROVIDERS)
@given(bodies=st.lists(_BODIES, max_size=5), cuts=st.lists(st.integers(0, 10**6), max_size=8), random=st.randoms())
def test_results_may_come_in_any_order_and_be_cut_anywhere(
    provider: str, bodies: list[dict[str, Any]], cuts: list[int], random: Any
) -> None:
    """A row would get another's answer, or none."""
    places = list(range(len(bodies)))
    random.shuffle(places)
    data = written(provider, [(f"s-{place}", bodies[place]) for place in places])
    found = read(made(provider).reader(a_file(provider)), data, cuts)
    assert [one.key for one in found] == [f"s-{place}" for place in places]
    more = {"choices": []} if provider == "fireworks" else {}
    assert [json.loads(one.body) for one in found] == [{**more, **bodies[place]} for place in places]
    assert {one.position for one in found} <= {None}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_request_goes_home_and_has_the_key(provider: str) -> None:
    """The key would go where an id of the provider's points, or a request would be refused for want of it."""
    batch = made(provider)
    rows = lines({"a": 1})
    evil = "../../../x?y=1#z/@evil.example:80/.."
    asked = [
        batch.before_upload("s", rows),
        batch.upload("s", rows) if batch.uploads(10**9) else None,
        batch.create("s", rows, "f"),
        batch.list(None),
        batch.list(evil),
        *(ask(evil) for ask in (batch.get, batch.cancel, batch.results, batch.delete, batch.file)),
    ]
    for request in filter(None, asked):
        assert isinstance(request, Request)
        assert request.url.startswith(ORIGINS[provider])
        path = request.url.partition("?")[0].partition("//")[2]
        assert "/../" not in f"{path}/"
        assert "#" not in request.url
        assert any(KEY in value for value in request.headers.values())
        assert KEY not in repr(request)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_row_takes_no_more_around_its_body_than_the_caps_say(provider: str) -> None:
    """A batch that is packed to the last byte would be refused for its size."""
    batch = made(provider)
    rows = lines(*[{}] * 100, stamp="s" * 59)
    request = batch.upload("s", rows) if batch.uploads(10**9) else batch.create("s", rows, None)
    assert len(request.body) <= 100 * (2 + batch.caps.around)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("status", "refusal"), [(401, "denied"), (402, "denied"), (413, "too_large"), (503, "again")])
def test_all_speak_one_vocabulary(provider: str, status: int, refusal: str) -> None:
    """The lane decides by these words alone."""
    said = made(provider).refused(Response(status, {}, b""))
    assert said is not None
    assert said[0] == refusal


@pytest.mark.parametrize(
    ("identity", "path"), [("b_1", "b_1"), (".", "%2E"), ("..", "%2E%2E"), ("a/b", "a%2Fb"), ("é ", "%C3%A9%20")]
)
def test_an_id_is_one_part_of_an_address(identity: str, path: str) -> None:
    """An id with a slash, or of dots, would lead elsewhere."""
    assert segment(identity) == path
