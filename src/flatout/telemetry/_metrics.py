"""A client's metrics: those of the conventions, and flatout's own.

Counters and histograms are updated when a call ends. Gauges (in flight, waiting, the limits in force) are read when
somebody reads the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from flatout.events import CallFinished, Event
from flatout.values import Reply
from flatout.values.result import queued

from . import _conventions as names
from ._content import error_type
from ._observed import Observed, TargetState

Labels = dict[str, str | int]

_TRIES = 3
"""Tries to read a client's status. It is read in another thread, and fails if a target is added just then."""


def measure(client: Observed, *, meter_provider: MeterProvider | None = None) -> Callable[[], None]:
    """Keep metrics of a client's calls.

    Args:
        client: the client.
        meter_provider: receives the metrics; OpenTelemetry's global provider when None.

    Returns:
        A function that stops it.
    """
    provider = meter_provider or metrics.get_meter_provider()
    meter = metrics.get_meter(names.SCOPE, meter_provider=provider, schema_url=names.SCHEMA_URL)
    instruments = _Instruments(meter)
    watched = _watched_by(provider, meter)
    watched.append(client)
    leave = client.events.subscribe(instruments.hear)

    def end() -> None:
        leave()
        if client in watched:
            watched.remove(client)

    return end


class _Instruments:
    """The instruments that are updated when a call ends."""

    def __init__(self, meter: Meter) -> None:
        seconds, tokens = names.SECONDS_BUCKETS, names.TOKENS_BUCKETS
        self._duration = meter.create_histogram(
            names.DURATION, "s", "GenAI operation duration.", explicit_bucket_boundaries_advisory=seconds
        )
        self._tokens = meter.create_histogram(
            names.TOKENS, "{token}", "Input and output tokens used.", explicit_bucket_boundaries_advisory=tokens
        )
        self._first_chunk = meter.create_histogram(
            names.FIRST_CHUNK, "s", "Time to the first chunk.", explicit_bucket_boundaries_advisory=seconds
        )
        self._attempt_duration = meter.create_histogram(
            names.METRIC_ATTEMPT_DURATION,
            "s",
            "Time of one attempt on the wire, by outcome.",
            explicit_bucket_boundaries_advisory=seconds,
        )
        self._queue_duration = meter.create_histogram(
            names.METRIC_QUEUE_DURATION,
            "s",
            "Time of one call in which no attempt was on the wire.",
            explicit_bucket_boundaries_advisory=names.QUEUE_BUCKETS,
        )
        self._attempts = meter.create_counter(names.METRIC_ATTEMPTS, "{attempt}", "Attempts by outcome.")
        self._retries = meter.create_counter(names.METRIC_RETRIES, "{retry}", "Attempts to be followed by another.")
        self._waited = meter.create_counter(names.METRIC_WAITED, "s", "Time of calls by what they waited for.")
        self._cost = meter.create_counter(names.METRIC_COST, "{USD}", "US dollars known to be spent.")
        self._unpriced = meter.create_counter(names.METRIC_UNPRICED, "{call}", "Calls whose cost is not known.")

    def hear(self, event: Event) -> None:
        """Update the instruments with a call that has ended."""
        if not isinstance(event, CallFinished):
            return
        journey = event.journey
        target = journey.attempt.target or event.call.model or ""
        reply = event.reply or getattr(event.error, "reply", None)
        failed = "" if event.error is None else error_type(event.error)
        model = reply.model or "" if reply is not None else ""
        self._duration.record(event.at - journey.started, _labels(target, model, failed))
        if journey.attempt.first_chunk is not None:
            self._first_chunk.record(journey.attempt.first_chunk, _labels(target, model))
        if reply is not None and reply.cached is None:  # a cached answer used its tokens earlier
            self._count_tokens(target, model, reply)
        self._count_attempts(target, event)
        for failure in journey.failures or ():
            if failure.retry_in is not None:
                self._retries.add(1, _own_labels(target, names.ERROR_TYPE, error_type(failure.error)))
        if journey.attempts or journey.waits:
            self._count_waits(target, journey.waits)
        if journey.cost is None:
            self._unpriced.add(1, _own_labels(target))
        elif journey.cost:
            self._cost.add(journey.cost, _own_labels(target))

    def _count_attempts(self, target: str, end: CallFinished) -> None:
        for outcome, times in _outcomes(end).items():
            labels = _own_labels(target, names.OUTCOME, outcome)
            self._attempts.add(len(times), labels)
            for seconds in times:
                if seconds is not None:
                    self._attempt_duration.record(seconds, labels)

    def _count_waits(self, target: str, waits: Mapping[str, float]) -> None:
        self._queue_duration.record(queued(waits), _own_labels(target))
        for cause, seconds in waits.items():
            self._waited.add(seconds, _own_labels(target, names.WAIT_CAUSE, cause))

    def _count_tokens(self, target: str, model: str, reply: Reply) -> None:
        if reply.usage.input_tokens is not None:
            self._tokens.record(reply.usage.input_tokens, _labels(target, model, token="input"))  # noqa: S106 - no password
        if reply.usage.output_tokens is not None:
            self._tokens.record(reply.usage.output_tokens, _labels(target, model, token="output"))  # noqa: S106 - likewise


@lru_cache(maxsize=10_000)
def _labels(target: str, model: str, failed: str = "", token: str = "") -> Labels:
    """The conventions' attributes. They are cached, because building them costs more than recording."""
    labels = names.target_attributes(target) | {names.OPERATION: names.CHAT}
    for name, value in ((names.RESPONSE_MODEL, model), (names.ERROR_TYPE, failed), (names.TOKEN_TYPE, token)):
        if value:
            labels[name] = value
    return labels


@lru_cache(maxsize=10_000)
def _own_labels(target: str, name: str = "", value: str = "") -> Labels:
    labels: Labels = {names.TARGET: target}
    if name:
        labels[name] = value
    return labels


def _outcomes(end: CallFinished) -> dict[str, list[float | None]]:
    """The seconds of a call's attempts, by how they ended; None for one whose time is not known."""
    journey = end.journey
    found: dict[str, list[float | None]] = {}
    counted = failed = 0
    for failure in journey.failures or ():
        if failure.attempt > counted:  # otherwise it failed before it was sent, and does not count
            counted = failure.attempt
            failed += 1
            found.setdefault(error_type(failure.error), []).append(failure.seconds)
    rest = journey.attempts - failed
    if rest > 0:  # with an error, they were ended from outside: by the deadline or a cancellation
        outcome = names.ANSWERED if end.error is None else error_type(end.error)
        beside = 0 if end.error is None else rest - 1  # attempts beside it were cancelled, at an unknown time
        found.setdefault(outcome, []).extend([journey.attempt.seconds, *[None] * beside])
    return found


def _add(found: dict[str, int], outcome: str, count: int) -> None:
    found[outcome] = found.get(outcome, 0) + count


# -- gauges ------------------------------------------------------------------------------------------------------------

_watched: WeakKeyDictionary[MeterProvider, list[Observed]] = WeakKeyDictionary()


def _watched_by(provider: MeterProvider, meter: Meter) -> list[Observed]:
    """The clients that a provider's gauges read. There is one list per provider, as a callback cannot be removed."""
    clients = _watched.get(provider)
    if clients is None:
        clients = _watched[provider] = []
        _make_gauges(meter, clients)
    return clients


def _make_gauges(meter: Meter, clients: list[Observed]) -> None:
    def look(value: Callable[[TargetState], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            sums: dict[str, int] = {}
            for state in _states(clients):
                _add(sums, state.target, value(state))
            return (Observation(count, _own_labels(target)) for target, count in sums.items())

        return observe

    def limits(_: CallbackOptions) -> Iterator[Observation]:
        for state in _states(clients):
            for name, limit in state.allows.items():
                if name != "concurrency":  # each of several processes may have a part of that
                    yield Observation(limit, _own_labels(state.target, names.LIMIT_NAME, name))

    meter.create_observable_up_down_counter(
        names.METRIC_IN_FLIGHT, [look(lambda state: state.in_flight)], "{attempt}", "Attempts on the wire."
    )
    meter.create_observable_up_down_counter(
        names.METRIC_WAITING, [look(lambda state: state.waiting)], "{attempt}", "Attempts that wait for admission."
    )
    meter.create_observable_gauge(
        names.METRIC_LIMIT, [limits], "", "The limits in force, where they are known: per minute; rpd per day."
    )


def _states(clients: list[Observed]) -> list[TargetState]:
    return [state for client in tuple(clients) for state in _status(client)]


def _status(client: Observed) -> Iterable[TargetState]:
    for _ in range(_TRIES):
        try:
            return client.status()
        except RuntimeError:  # a target was added while its dict was read
            continue
    return ()
