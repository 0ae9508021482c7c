"""The answers of a simulated provider as bytes: whole or streamed, with their time on the wire and their faults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from statistics import NormalDist
from typing import Any

import msgspec

from . import _answers as answers
from . import _messages as messages_api
from . import _responses as responses_api
from . import _streams as streams
from ._chat import EMPTY, Chat, Script, Written
from ._prompt_cache import CacheUse
from ._settings import ProviderSettings
from ._slots import SimulatedResponse, Wire
from ._vectors import Texts

_P99 = NormalDist().inv_cdf(0.99)
_SPREAD = math.log(3.0) / _P99  # spread of the service time: its 99th percentile is three times the median
JSON = {"content-type": "application/json"}
_STREAM = {"content-type": "text/event-stream"}
WIRES: Mapping[str, Wire] = {"reset": "reset", "hang": "hang", "truncated": "truncated", "stall": "stall"}


class AnswerWriter:
    """Writes the answers to requests that were admitted.

    Args:
        random: draws the times.
        seed: with the conversation, it decides what an answer says.
        script: returns the answers instead, if there is one.
    """

    def __init__(self, random: Random, seed: int, script: Script | None) -> None:
        self._random = random
        self._seed = seed
        self._script = script

    def write(
        self, settings: ProviderSettings, number: int, wall: float, arrival: Chat | Texts, fault: str
    ) -> SimulatedResponse:
        """The answer to a request, as its fault changes it. ``number`` names it.

        Raises:
            BadSchema: no answer can have the requested form.
        """
        if isinstance(arrival, Texts):
            body = arrival.answer(settings, empty=fault == "empty")
            return self._whole(settings, arrival, body, fault, 0)
        written = EMPTY if fault == "empty" else arrival.write(settings, self._seed, self._script)
        if not (fault or written.fits):
            fault = "schema"
        if arrival.request.stream:
            return self._streamed(settings, number, wall, arrival, written, fault)
        if arrival.messages is not None:
            body = messages_api.message(**_said(number, arrival, written))
        elif arrival.responses:
            body = msgspec.json.encode(_response(number, wall, arrival, written))
        else:
            body = _completion(settings, number, wall, arrival, written)
        return self._whole(settings, arrival, body, fault, written.tokens)

    def _service(self, settings: ProviderSettings) -> float:
        return service_time(self._random, settings.latency, settings.latency_p99)

    def _whole(
        self, settings: ProviderSettings, arrival: Chat | Texts, body: bytes, fault: str, output: int
    ) -> SimulatedResponse:
        outcome = SimulatedResponse(
            kind=fault or "answered",
            headers=JSON,
            body=body,
            delay=self._service(settings),
            mark=int.from_bytes(arrival.mark[:8]),
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=output,
            use=arrival.use if isinstance(arrival, Chat) else CacheUse(),
        )
        spoil(outcome, fault)
        return outcome

    def _streamed(
        self, settings: ProviderSettings, number: int, wall: float, chat: Chat, written: Written, fault: str
    ) -> SimulatedResponse:
        events = _events(settings, number, wall, chat, written)
        first, gap = self._pace(settings, len(events))
        return SimulatedResponse(
            kind=fault or "answered",
            headers=_STREAM,
            pieces=streams.paced(streams.broken(events, fault), gap),
            delay=first,
            wire="whole" if fault == "truncated" else WIRES.get(fault, "whole"),
            mark=int.from_bytes(chat.mark[:8]),
            prompt_tokens=chat.prompt_tokens,
            output_tokens=written.tokens,
            use=chat.use,
        )

    def _pace(self, settings: ProviderSettings, events: int) -> tuple[float, float]:
        """Seconds until a stream of ``events`` events begins, and between its words."""
        service = self._service(settings)
        drawn = service / settings.latency if settings.latency else 1.0  # the ratio of this service time to the median
        first = service * streams.FIRST_SHARE if settings.first_token is None else settings.first_token * drawn
        if settings.word_gap is not None:
            return first, settings.word_gap * drawn
        gaps = events - 3  # the role comes with the first word, the end with the last
        return first, max(0.0, service - first) / gaps if gaps > 0 else 0.0


def spoil(outcome: SimulatedResponse, fault: str) -> None:
    """Let a fault have its effect on a whole answer."""
    if fault == "malformed":
        outcome.body = outcome.body[: len(outcome.body) // 2]
    elif fault == "late_error":
        outcome.body = answers.error("the server failed", "server_error")
    elif fault in WIRES:
        outcome.wire = WIRES[fault]


def service_time(random: Random, median: float, p99: float | None) -> float:
    """Seconds that a service takes; its 99th percentile is three times the median unless it is given."""
    if not median:
        return 0.0
    spread = _SPREAD if p99 is None else math.log(p99 / median) / _P99
    return median * math.exp(spread * random.gauss())


def _events(settings: ProviderSettings, number: int, wall: float, chat: Chat, written: Written) -> list[bytes]:
    if chat.messages is not None:
        return messages_api.events(**_said(number, chat, written))
    if chat.responses:
        return responses_api.events(_response(number, wall, chat, written))
    options = chat.request.stream_options
    return streams.events(
        number=number,
        model=chat.request.model,
        message=written.message,
        finish=written.finish,
        wall=wall,
        usage=_usage(settings, chat, written) if options and options.include_usage else None,
    )


def _said(number: int, chat: Chat, written: Written) -> dict[str, Any]:
    return {
        "number": number,
        "model": chat.request.model,
        "message": written.message,
        "finish": written.finish,
        "prompt": chat.prompt_tokens,
        "output": written.tokens,
        "use": chat.use,
    }


def _response(number: int, wall: float, chat: Chat, written: Written) -> dict[str, Any]:
    return responses_api.response(**_said(number, chat, written), wall=wall, tier=_tier(chat))


def _completion(settings: ProviderSettings, number: int, wall: float, chat: Chat, written: Written) -> bytes:
    return answers.completion(
        number=number,
        model=chat.request.model,
        message=written.message,
        finish=written.finish,
        wall=wall,
        usage=_usage(settings, chat, written),
        tier=_tier(chat),
    )


def _tier(chat: Chat) -> str | None:
    """The tier that an answer names."""
    return "flex" if chat.request.service_tier == "flex" else None


def _usage(settings: ProviderSettings, chat: Chat, written: Written) -> dict[str, Any]:
    cached = None
    if settings.prompt_cache:
        cached = {"cached_tokens": chat.use.read}
    if settings.prompt_cache == "breakpoints":
        cached = {"cached_tokens": chat.use.read, "cache_write_tokens": chat.use.written}
    return answers.usage(chat.prompt_tokens, written.tokens, cached)
