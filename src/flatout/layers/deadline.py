"""Bounds the whole call: queueing, every attempt and every wait between them."""

from __future__ import annotations

from flatout.errors import DeadlineExceeded
from flatout.layer import CallNext, Journey, journey
from flatout.tasks.patience import Patience
from flatout.values import Call, Reply


class Deadline:
    """Ends a call that is not answered in time, with `DeadlineExceeded`; the last failure is chained.

    What was got out of an answer that did not fit (`Journey.fallback`) is better than none: it is returned instead.

    Args:
        seconds: for calls that name no deadline of their own.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        seconds = call.deadline or self._seconds
        trip = journey()
        trip.deadline_at = trip.started + seconds
        try:
            async with Patience(trip.deadline_at, trip.is_in_flight) as scope:
                return await call_next(call)
        except TimeoutError:
            if not scope.expired():
                raise
            if trip.fallback is not None:
                return trip.fallback
        # Raised out here, the error does not hold the one that ended the attempt, whose frames hold the request.
        raise _exceeded(seconds, trip) from trip.last_error


def _exceeded(seconds: float, trip: Journey) -> DeadlineExceeded:
    tries = "1 attempt" if trip.attempts == 1 else f"{trip.attempts} attempts"
    text = f"not answered within {seconds:g} s, after {tries}{_why(trip)}"
    return DeadlineExceeded(text, attempts=trip.attempts, reply=trip.said)


def _why(trip: Journey) -> str:
    """What took so long."""
    tried = trip.trouble.tried() if trip.trouble is not None else ""
    parts = [f" ({tried})" if tried else ""]
    if outage := trip.waits.get("outage"):
        parts.append(f"; {outage:.0f} s of it waiting for a server that was down")
    if trip.last_error is not None:
        parts.append(f"; the last failure: {trip.last_error}")
    return "".join(parts)
