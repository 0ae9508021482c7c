"""A provider without a network: the behaviour of an OpenAI-compatible server as a pure function of time and seed.

It has no clock, no event loop and no I/O. The caller passes the time, waits as long as a `SimulatedResponse` says, and
hands that back. So the same model works behind an in-memory transport on virtual time and behind a real HTTP server.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from . import _answers as answers
from ._answers import Rejection, fate
from ._batches._desk import Desk, is_signed
from ._batches._job import Kind
from ._batches._request import Ask
from ._chat import Chat, Script
from ._counts import Statistics
from ._faults import FaultTable
from ._headers import HeaderWriter, retry_after
from ._limits import Exceeded, RateLimits
from ._prompt_cache import PromptCache
from ._schemas import BadSchema
from ._settings import ProviderSettings
from ._slots import ServerSlots, SimulatedResponse
from ._vectors import Texts
from ._writer import JSON, WIRES, AnswerWriter, service_time, spoil

SPURIOUS_WAIT = 1.0
"""Seconds that a 429 asks to wait if no limit was reached."""


REFUSALS: Mapping[str, tuple[int, bytes]] = {
    "rate_limited": (429, answers.error("too many requests", "requests", "rate_limit_exceeded")),
    "overloaded": (503, answers.error("the engine is overloaded", "server_error")),
    "server_error": (500, answers.error("the server failed", "server_error")),
}
"""The faults that are errors before an answer, with their status and body."""


class ProviderModel:
    """One simulated provider.

    Args:
        settings: how it behaves.
        seed: the same seed and the same requests at the same times give the same outcomes.
        script: returns the answers, instead of the words that the model makes up. Such answers carry no digest.
    """

    def __init__(
        self, settings: ProviderSettings | None = None, seed: int = 0, *, script: Script | None = None
    ) -> None:
        self._given = settings if settings is not None else ProviderSettings()
        self.seed = seed
        self.script = script
        self._started: float | None = None
        self._begin(Statistics())
        self._slots = ServerSlots(self._given.slots, self._given.queue, self._given.slow_above)

    def __repr__(self) -> str:
        seen = self._counts
        return (
            f"ProviderModel({self.settings!r}, seed={self.seed}: {seen.received} received, {seen.refused} refused, "
            f"{seen.answered} answered, {seen.in_flight} in flight)"
        )

    def start(self, now: float) -> None:
        """Start the provider's time now, instead of at the first request."""
        self._started = now

    def reset(self) -> None:
        """Forget all counts and charges, as at the start. Open requests stay open."""
        self._begin(Statistics(self._counts.in_flight))
        self._slots.limit, self._slots.queue = self._given.slots, self._given.queue
        self._slots.slow_above = self._given.slow_above

    def receive(
        self,
        now: float,
        wall: float,
        body: bytes,
        authorization: str = "",
        *,
        embeddings: bool = False,
        messages: bool = False,
        responses: bool = False,
    ) -> SimulatedResponse:
        """Decide the outcome of a request.

        Args:
            now: a monotonic clock's seconds.
            wall: Unix seconds, for headers that tell the time of day.
            body: the chat completion request, or one for embeddings, Messages or Responses.
            authorization: the Authorization header.
            embeddings: whether it is a request for embeddings.
            messages: whether it is a request of Anthropic's Messages.
            responses: whether it is a request of OpenAI's Responses.
        """
        now = self._advance(now)
        self._counts.arrive(now)
        if self._is_out(now):
            return self._outage()
        kind: Kind = "embeddings" if embeddings else "messages" if messages else "responses" if responses else "chat"
        arrival = _read(body, kind)
        if isinstance(arrival, Rejection):
            return self._fail(now, *arrival)
        rejection = self._stranger(authorization) or self._rejection(arrival)
        if rejection is not None:
            return self._fail(now, *rejection)
        if isinstance(arrival, Chat) and arrival.request.service_tier == "flex" and _is_in(self.settings.no_room, now):
            return self._fail(now, "no_room", 429, answers.error("Resource unavailable", code="resource_unavailable"))
        fault = self._faults.pick(self._random.random()) if self._faults else ""
        if fault in REFUSALS:
            return self._fault(now, wall, fault)
        if self.settings.prompt_cache and isinstance(arrival, Chat):
            arrival.look(now, self.settings, authorization, self._cache)
        cost = arrival.cost(reserve=self.settings.reserve_max_tokens)
        if (refusal := self._limits.refusal(now, cost)) is not None:
            return self._refuse(now, wall, refusal, cost)
        if self._slots.full():
            status = self.settings.queue_status
            return self._fail(now, "queue_full", status, answers.error("the queue is full", "server_error"))
        try:
            outcome = self._writer.write(self.settings, self._counts.number, wall, arrival, fault)
        except BadSchema as problem:
            return self._fail(now, *answers.bad_request(str(problem)))
        return self._admit(now, wall, outcome, cost)

    def receive_about_batches(self, now: float, wall: float, ask: Ask) -> SimulatedResponse:
        """Decide the outcome of a request about files or batches. It uses no limit and no slot."""
        now = self._advance(now)
        self._counts.arrive(now)
        if self._is_out(now):
            return self._outage()
        if not is_signed(ask.path) and (rejection := self._stranger(ask.authorization)) is not None:
            return self._fail(now, *rejection)
        fault = self._faults.pick(self._random.random()) if self._faults else ""
        if fault in REFUSALS:
            return self._fault(now, wall, fault)
        if fault in ("reset", "hang"):  # the request is not even read
            outcome = SimulatedResponse(kind=fault, headers={}, wire=WIRES[fault])
        else:
            outcome = self._desk.answer(now, wall, ask)
            if fault not in ("", "empty") and outcome.kind == "batches":
                outcome.kind = fault
                spoil(outcome, fault)
        if outcome.kind != "batches":
            self._counts.faults[outcome.kind] += 1
        outcome.delay = self.settings.error_latency
        return outcome

    def begin(self, now: float, outcome: SimulatedResponse) -> None:
        """Report that the answer to a request begins. What its prompt put into the prompt cache can now be read."""
        if outcome.use.writes and outcome.kind == "answered":
            self._cache.begun(self._advance(now), self.settings, outcome.use)

    def finish(self, now: float, outcome: SimulatedResponse, *, delivered: bool = True) -> Sequence[SimulatedResponse]:
        """Report that a request is over: delivered, or abandoned by its client.

        Returns:
            The queued requests that got a slot because of it; their `SimulatedResponse.delay` begins now.
        """
        now = self._advance(now)
        self._counts.in_flight -= 1
        if outcome.holds and not outcome.queued and not self.settings.reserve_max_tokens:
            self._limits.take_tokens(now, outcome.output_tokens)
            self._counts.tokens_admitted += outcome.output_tokens
        if delivered and outcome.kind == "answered":
            self._counts.answer(outcome)
        return self._slots.leave(outcome)

    def stats(self) -> dict[str, Any]:
        """The counts so far.

        ``refused`` counts the 429s of the provider's limits; ``faults`` counts all other failures, by name.
        ``duplicates`` counts answers to conversations that had been answered before. ``in_flight`` counts the requests
        being served or waiting, ``admitted_per_second`` the requests that the limits admitted in each second.
        ``batches`` counts those of batches, as their provider would bill them, and the files that are left. Answered
        rows count as ``answered``, too.
        """
        return {**self._counts.as_dict(self._slots), "batches": self._desk.shelf.stats()}

    def model_list(self) -> bytes:
        """The body of ``GET /models``."""
        return answers.model_list(self.settings.models)

    def _begin(self, counts: Statistics) -> None:
        self.settings: ProviderSettings = self._given
        self._random = Random(self.seed)
        self._writer = AnswerWriter(self._random, self.seed, self.script)
        self._limits = RateLimits(self._given)
        self._headers = HeaderWriter(self._given.headers, self._given.stale_headers)
        self._faults = FaultTable(self._given.faults)
        self._counts = counts
        self._cache = PromptCache()
        self._desk = Desk(self._given, self.seed, self._answer_row, _count_tokens)
        self._changes = deque(self._given.schedule())
        self._started = None
        self._now = 0.0

    def _advance(self, now: float) -> float:
        """The model's own time, which never goes back. Makes the changes that are due."""
        if self._started is None:
            self._started = now
        self._now = max(self._now, now - self._started)
        while self._changes and self._changes[0][0] <= self._now:
            at, change = self._changes.popleft()
            self.settings = self.settings.changed(change)
            self._limits.change(at, self.settings)
            self._slots.limit, self._slots.queue = self.settings.slots, self.settings.queue
            self._slots.slow_above = self.settings.slow_above
        return self._now

    def _is_out(self, now: float) -> bool:
        return _is_in(self.settings.outage, now)

    def _answer_row(self, wall: float, kind: Kind, body: bytes) -> SimulatedResponse:
        """The answer to a row of a batch: what the same request would get by itself, without limits and waiting."""
        self._counts.rows += 1
        arrival = _read(body, kind)
        rejection = arrival if isinstance(arrival, Rejection) else self._rejection(arrival)
        if rejection is None and isinstance(arrival, Chat) and arrival.request.stream:
            rejection = answers.bad_request("a request of a batch cannot be streamed")
        if rejection is not None:
            return self._row_fails(*rejection)
        assert not isinstance(arrival, Rejection), "it was looked at above"
        failed = self.settings.batch.faults.failed
        if failed and self._random.random() < failed:
            return self._row_fails("server_error", *REFUSALS["server_error"])
        try:
            outcome = self._writer.write(self.settings, self._counts.number, wall, arrival, "")
        except BadSchema as problem:
            return self._row_fails(*answers.bad_request(str(problem)))
        if outcome.kind == "answered":
            self._counts.answer(outcome)
        else:
            self._counts.faults[outcome.kind] += 1
        return outcome

    def _row_fails(self, kind: str, status: int, body: bytes) -> SimulatedResponse:
        self._counts.faults[kind] += 1
        return SimulatedResponse(kind=kind, status=status, headers={}, body=body)

    def _stranger(self, authorization: str) -> Rejection | None:
        """The refusal of a key that is not the right one."""
        if self.settings.key is None or authorization == f"Bearer {self.settings.key}":
            return None
        return Rejection("unauthorized", 401, answers.error("the API key is not right", code="invalid_api_key"))

    def _rejection(self, arrival: Chat | Texts) -> Rejection | None:
        """The permanent refusal of this request; None if it may succeed."""
        settings, model = self.settings, arrival.request.model
        if settings.models and model not in settings.models:
            message = f"The model `{model}` does not exist"
            return Rejection("model_not_found", 404, answers.error(message, code="model_not_found"))
        if (problem := arrival.problem(settings)) is not None:
            return problem
        invalid = settings.faults.invalid
        if invalid and any(fate(mark, 16, self.seed) < invalid for mark in arrival.marks()):
            return Rejection("invalid", 400, answers.error("this prompt is never accepted", code="invalid_value"))
        return None

    def _outage(self) -> SimulatedResponse:
        self._counts.faults["outage"] += 1
        if self.settings.outage_as == "refused":
            return SimulatedResponse(kind="outage", status=0, headers={}, wire="refused")
        body = answers.error("the provider is down", "server_error")
        return SimulatedResponse(
            kind="outage", status=503, headers=dict(JSON), body=body, delay=self.settings.error_latency
        )

    def _fault(self, now: float, wall: float, fault: str) -> SimulatedResponse:
        outcome = self._fail(now, fault, *REFUSALS[fault])
        if fault == "server_error":
            outcome.delay = service_time(self._random, self.settings.latency, self.settings.latency_p99)
        elif fault == "rate_limited":
            outcome.headers |= self._retry_after(SPURIOUS_WAIT, wall)
        return outcome

    def _refuse(self, now: float, wall: float, refusal: Exceeded, cost: int) -> SimulatedResponse:
        self._counts.refused += 1
        if self.settings.charge_failed:
            self._limits.waste(now)
        too_large = refusal.wait == math.inf
        headers = JSON | self._headers.write(now, wall, self._limits, cost)
        if not too_large:
            headers |= self._retry_after(refusal.wait, wall)
        return SimulatedResponse(
            kind="refused",
            status=413 if too_large and self.settings.headers == "groq" else 429,
            headers=headers,
            body=answers.rate_limit_error(refusal, cost, named=self.settings.names_limits),
            delay=self.settings.error_latency,
        )

    def _fail(self, now: float, kind: str, status: int, body: bytes) -> SimulatedResponse:
        self._counts.faults[kind] += 1
        if self.settings.charge_failed:
            self._limits.waste(now)
        return SimulatedResponse(
            kind=kind, status=status, headers=dict(JSON), body=body, delay=self.settings.error_latency
        )

    def _admit(self, now: float, wall: float, outcome: SimulatedResponse, cost: int) -> SimulatedResponse:
        if outcome.kind != "answered":
            self._counts.faults[outcome.kind] += 1
        self._limits.take(now, cost)
        told = self._headers.write(now, wall, self._limits, cost)
        outcome.headers = {**outcome.headers, **told, "x-request-id": f"req_{self._counts.received:012d}"}
        self._slots.enter(outcome)
        self._counts.admit(now, cost, self._slots)
        return outcome

    def _retry_after(self, wait: float, wall: float) -> dict[str, str]:
        always = self.settings.retry_after_always
        return retry_after(self.settings.retry_after, wait if always is None else always, wall)


def _read(body: bytes, kind: Kind) -> Chat | Texts | Rejection:
    """A request, or its refusal if it is none."""
    reads, what = _READERS[kind]
    try:
        return reads(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        return answers.bad_request(f"not {what} request: {problem}")


_READERS: Mapping[Kind, tuple[Callable[[bytes], Chat | Texts], str]] = {
    "chat": (Chat.of, "a chat completion"),
    "messages": (Chat.of_messages, "a Messages"),
    "responses": (Chat.of_responses, "a Responses"),
    "embeddings": (Texts.of, "an embeddings"),
}


def _is_in(span: tuple[float, float] | None, now: float) -> bool:
    return span is not None and span[0] <= now < span[1]


def _count_tokens(kind: Kind, body: bytes) -> int:
    """The prompt tokens of a row; 0 if it cannot be read."""
    arrival = _read(body, kind)
    return 0 if isinstance(arrival, Rejection) else arrival.prompt_tokens
