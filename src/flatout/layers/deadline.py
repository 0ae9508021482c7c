"""Bounds the whole call: queueing, every attempt and every wait between them."""

from __future__ import annotations

from flatout.errors import DeadlineExceeded
from flatout.journey import Journey, current_journey
from flatout.layer import CallNext
from flatout.tasks.patience import Patience
from flatout.values import Call, Reply


class Deadline:
    """Ends a call that is not answered in time, with `DeadlineExceeded`; the last failure is chained.

    If part of an unfit answer could be used (`Unfit.fallback`), it is returned instead: it is better than nothing.

    Args:
        seconds: the deadline of calls without their own.

    Attributes:
        seconds: see above. It may change; calls that have begun keep theirs.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, call: Call, call_next: CallNext, /) -> Reply:
        journey = current_journey()
        seconds = call.deadline or (self.seconds if journey.flex is None else journey.flex.deadline)
        journey.deadline_at = journey.started + seconds
        try:
            with Patience(journey.deadline_at, journey.attempt) as scope:
                return await call_next(call)
        except TimeoutError:
            if not scope.expired():
                raise
            if journey.unfit.fallback is not None:
                return journey.unfit.fallback
        # Raised outside the block, the error does not hold the one that ended the attempt, whose frames hold the
        # request.
        raise _exceeded(seconds, journey) from journey.last_error


def _exceeded(seconds: float, journey: Journey) -> DeadlineExceeded:
    tries = "1 attempt" if journey.attempts == 1 else f"{journey.attempts} attempts"
    text = f"not answered within {seconds:g} s, after {tries}{_why(journey)}"
    return DeadlineExceeded(text, attempts=journey.attempts, reply=journey.unfit.last)


def _why(journey: Journey) -> str:
    """What took long: the attempts, an outage, and the last failure."""
    tried = journey.trouble.tried() if journey.trouble is not None else ""
    parts = [f" ({tried})" if tried else ""]
    if outage := journey.waits.get("outage"):
        parts.append(f"; {outage:.0f} s of it waiting for a server that was down")
    if journey.last_error is not None:
        parts.append(f"; the last failure: {journey.last_error}")
    return "".join(parts)
