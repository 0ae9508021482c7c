"""A provider without a network: what an OpenAI-compatible server would do, as a pure function of time and seed.

No clock, no event loop, no I/O. Whoever drives the model says what time it is, waits as long as an `Outcome` says and
hands it back. So the same model stands behind an in-memory transport on virtual time and behind a real HTTP server.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import Any, NamedTuple

import msgspec

from . import answers
from .answers import ChatRequest
from .counts import Counts
from .faults import FaultTable
from .headers import HeaderWriter, retry_after
from .limits import RateLimits, Refusal
from .settings import ProviderSettings
from .slots import Outcome, Slots, Wire

Script = Callable[[dict[str, Any]], "str | dict[str, Any]"]
"""Gives the answer to a request body: its text, or the whole message (say with ``tool_calls``)."""

SPURIOUS_WAIT = 1.0
"""Seconds that a 429 asks to wait when no limit was reached."""

_P99 = NormalDist().inv_cdf(0.99)
_normal_quantile = NormalDist().inv_cdf
_JSON = {"content-type": "application/json"}
_WIRES: Mapping[str, Wire] = {"reset": "reset", "hang": "hang", "truncated": "truncated"}


class _Arrival(NamedTuple):
    """A request that could be read."""

    body: bytes
    request: ChatRequest
    mark: bytes
    prompt_tokens: int

    @classmethod
    def of(cls, body: bytes) -> _Arrival:
        request = answers.decode_request(body)
        return cls(body, request, answers.fingerprint(request.messages), answers.count_prompt(request.messages))

    def cost(self, *, reserve: bool) -> int:
        """Tokens that are charged on admission."""
        return max(self.prompt_tokens, self.request.token_cap or 0) if reserve else self.prompt_tokens


class ProviderModel:
    """One simulated provider.

    Args:
        settings: how it behaves.
        seed: the same seed and the same requests at the same times give the same outcomes.
        script: gives the answers instead of the words that the model makes up; such answers carry no digest.
    """

    def __init__(
        self, settings: ProviderSettings | None = None, seed: int = 0, *, script: Script | None = None
    ) -> None:
        self._given = settings if settings is not None else ProviderSettings()
        self.seed = seed
        self.script = script
        self._started: float | None = None
        self._begin(Counts())
        self._slots = Slots(self._given.slots, self._given.queue, self._given.slow_above)

    def __repr__(self) -> str:
        seen = self._counts
        return (
            f"ProviderModel({self.settings!r}, seed={self.seed}: {seen.received} received, {seen.refused} refused, "
            f"{seen.answered} answered, {seen.in_flight} in flight)"
        )

    def start(self, now: float) -> None:
        """Say that the provider's time begins now, and not with the first request."""
        self._started = now

    def reset(self) -> None:
        """Forget all that was counted and charged, as at the start. Open requests stay open."""
        self._begin(Counts(self._counts.in_flight))
        self._slots.limit, self._slots.queue = self._given.slots, self._given.queue
        self._slots.slow_above = self._given.slow_above

    def receive(self, now: float, wall: float, body: bytes, authorization: str = "") -> Outcome:
        """Decide what becomes of a request.

        Args:
            now: a monotonic clock's seconds.
            wall: Unix seconds, for headers that tell the time of day.
            body: the chat completion request.
            authorization: the Authorization header.
        """
        now = self._advance(now)
        self._counts.arrive(now)
        outage = self.settings.outage
        if outage is not None and outage[0] <= now < outage[1]:
            return self._outage()
        try:
            arrival = _Arrival.of(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            return self._fail(now, "bad_request", 400, answers.error(f"not a chat completion request: {problem}"))
        rejection = self._rejection(arrival, authorization)
        if rejection is not None:
            return self._fail(now, *rejection)
        fault = self._faults.pick(self._random.random()) if self._faults else ""
        if fault in ("rate_limited", "overloaded", "server_error"):
            return self._fault(now, wall, fault)
        cost = arrival.cost(reserve=self.settings.reserve_max_tokens)
        if (refusal := self._limits.refusal(now, cost)) is not None:
            return self._refuse(now, wall, refusal, cost)
        if self._slots.full():
            status = self.settings.queue_status
            return self._fail(now, "queue_full", status, answers.error("the queue is full", "server_error"))
        return self._admit(now, wall, arrival, fault, cost)

    def finish(self, now: float, outcome: Outcome, *, delivered: bool = True) -> Sequence[Outcome]:
        """Say that a request is over: delivered, or given up by its client.

        Returns:
            The queued requests that got their slot by it; their `Outcome.delay` begins now.
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
        """What was counted so far.

        ``refused`` are the 429s of the provider's limits; ``faults`` counts everything else that went wrong, by name.
        ``duplicates`` are answers to conversations that had been answered before. ``in_flight`` are the requests
        being served or waiting, ``admitted_per_second`` those that the limits let through in each second.
        """
        return self._counts.as_dict(self._slots)

    def model_list(self) -> bytes:
        """The body of ``GET /models``."""
        return answers.model_list(self.settings.models)

    def _begin(self, counts: Counts) -> None:
        self.settings = self._given
        self._random = Random(self.seed)
        self._limits = RateLimits(self._given)
        self._headers = HeaderWriter(self._given.headers, self._given.stale_headers)
        self._faults = FaultTable(self._given.faults)
        self._counts = counts
        self._changes = deque(self._given.schedule())
        self._started = None
        self._now = 0.0

    def _advance(self, now: float) -> float:
        """The model's own time, which never goes back; makes the changes that are due."""
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

    def _rejection(self, arrival: _Arrival, authorization: str) -> tuple[str, int, bytes] | None:
        """The kind, status and body of what this request gets every time; None when it may succeed."""
        settings, request, prompt = self.settings, arrival.request, arrival.prompt_tokens
        if settings.key is not None and authorization != f"Bearer {settings.key}":
            return "unauthorized", 401, answers.error("the API key is not right", code="invalid_api_key")
        if settings.models and request.model not in settings.models:
            message = f"The model `{request.model}` does not exist"
            return "model_not_found", 404, answers.error(message, code="model_not_found")
        if not request.messages:
            return "bad_request", 400, answers.error("messages is empty")
        if request.stream:
            return "bad_request", 400, answers.error("this provider does not stream")
        if settings.context_tokens is not None and prompt > settings.context_tokens:
            message = (
                f"This model's maximum context length is {settings.context_tokens} tokens, "
                f"but the messages are {prompt} tokens long."
            )
            return "context_length_exceeded", 400, answers.error(message, code="context_length_exceeded")
        if settings.faults.invalid and self._fate(arrival.mark, 16) < settings.faults.invalid:
            return "invalid", 400, answers.error("this prompt is never accepted", code="invalid_value")
        return None

    def _outage(self) -> Outcome:
        self._counts.faults["outage"] += 1
        if self.settings.outage_as == "refused":
            return Outcome(kind="outage", status=0, headers={}, wire="refused")
        body = answers.error("the provider is down", "server_error")
        return Outcome(kind="outage", status=503, headers=dict(_JSON), body=body, delay=self.settings.error_latency)

    def _fault(self, now: float, wall: float, fault: str) -> Outcome:
        if fault == "server_error":
            outcome = self._fail(now, fault, 500, answers.error("the server failed", "server_error"))
            outcome.delay = self._service_time()
            return outcome
        if fault == "overloaded":
            return self._fail(now, fault, 503, answers.error("the engine is overloaded", "server_error"))
        outcome = self._fail(now, fault, 429, answers.error("too many requests", "requests", "rate_limit_exceeded"))
        outcome.headers |= self._retry_after(SPURIOUS_WAIT, wall)
        return outcome

    def _refuse(self, now: float, wall: float, refusal: Refusal, cost: int) -> Outcome:
        self._counts.refused += 1
        if self.settings.charge_failed:
            self._limits.waste(now)
        too_large = refusal.wait == math.inf
        headers = _JSON | self._headers.write(now, wall, self._limits, cost)
        if not too_large:
            headers |= self._retry_after(refusal.wait, wall)
        return Outcome(
            kind="refused",
            status=413 if too_large and self.settings.headers == "groq" else 429,
            headers=headers,
            body=answers.rate_limit_error(refusal, cost),
            delay=self.settings.error_latency,
        )

    def _fail(self, now: float, kind: str, status: int, body: bytes) -> Outcome:
        self._counts.faults[kind] += 1
        if self.settings.charge_failed:
            self._limits.waste(now)
        return Outcome(kind=kind, status=status, headers=dict(_JSON), body=body, delay=self.settings.error_latency)

    def _admit(self, now: float, wall: float, arrival: _Arrival, fault: str, cost: int) -> Outcome:
        message, finish, output = self._answer(arrival, empty=fault == "empty")
        number = self._counts.received
        body = answers.completion(
            number=number,
            model=arrival.request.model,
            message=message,
            finish=finish,
            wall=wall,
            prompt=arrival.prompt_tokens,
            output=output,
        )
        if fault:
            self._counts.faults[fault] += 1
        self._limits.take(now, cost)
        headers = _JSON | self._headers.write(now, wall, self._limits, cost)
        headers["x-request-id"] = f"req_{number:012d}"
        outcome = Outcome(
            kind=fault or "answered",
            headers=headers,
            body=body[: len(body) // 2] if fault == "malformed" else body,
            delay=self._service_time(),
            wire=_WIRES.get(fault, "whole"),
            mark=int.from_bytes(arrival.mark[:8]),
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=output,
        )
        self._slots.enter(outcome)
        self._counts.admit(now, cost, self._slots)
        return outcome

    def _answer(self, arrival: _Arrival, *, empty: bool) -> tuple[dict[str, Any], str, int]:
        """The message, why it ended, and its tokens."""
        if empty:
            return {"role": "assistant", "content": ""}, "stop", 0
        if self.script is not None:
            return _scripted(self.script(msgspec.json.decode(arrival.body)))
        tokens, finish = self._answer_length(arrival.mark), "stop"
        cap = arrival.request.token_cap
        if cap is not None and tokens > cap:
            tokens, finish = cap, "length"
        return {"role": "assistant", "content": answers.text_of(tokens, arrival.mark.hex()[:16])}, finish, tokens

    def _answer_length(self, mark: bytes) -> int:
        median, p99 = self.settings.output_tokens, self.settings.output_tokens_p99
        if not median:
            return 0
        spread = math.log(p99 / median if p99 else 4.0) / _P99
        return max(1, round(median * math.exp(spread * _normal_quantile(self._fate(mark, 8)))))

    def _service_time(self) -> float:
        median, p99 = self.settings.latency, self.settings.latency_p99
        if not median:
            return 0.0
        spread = math.log(p99 / median if p99 else 3.0) / _P99
        return median * math.exp(spread * self._random.gauss())

    def _retry_after(self, wait: float, wall: float) -> dict[str, str]:
        always = self.settings.retry_after_always
        return retry_after(self.settings.retry_after, wait if always is None else always, wall)

    def _fate(self, mark: bytes, place: int) -> float:
        """A number between 0 and 1 that belongs to a conversation, the same every time it is asked."""
        bits = (int.from_bytes(mark[place : place + 8]) ^ self.seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        return (bits + 1) / (2**64 + 2)


def _scripted(answer: str | dict[str, Any]) -> tuple[dict[str, Any], str, int]:
    message = {"content": answer} if isinstance(answer, str) else answer
    content = message.get("content")
    tokens = answers.count_tokens(content if isinstance(content, str) else repr(message))
    return {"role": "assistant", **message}, "tool_calls" if message.get("tool_calls") else "stop", tokens
