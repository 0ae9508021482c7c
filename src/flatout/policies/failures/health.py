"""Tells whether a target is in trouble, from the outcomes of all calls to it.

When nearly all calls fail, the target is at fault. Then its calls wait for it and spend none of their attempts: trouble
costs time, and no rows. There are five cases:

- *healthy*: calls are answered.
- *degraded*: some calls fail, others are answered. Each call spends its own attempts.
- *down*: one call after the other fails, and no later call is answered. No call spends attempts: all wait, one looks,
  and once it is answered the others follow (see `flatout.policies.failures.gate`).
- *doubtful*: the first calls were all refused for their content, in the same words. Perhaps every call would be, or
  only these rows are wrong: the others go one at a time, and the first answer lets all go.
- *stopped*: a refusal that every call would meet (a wrong key, a used-up quota). Calls fail at once with that reason,
  and one looks every few minutes.

Failures come sooner than answers: while the last answers from before an outage still arrive, everything sent after them
fails. So outcomes are judged in the order in which their calls were sent.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Literal

from msgspec import Struct

from flatout.errors import CallError, ConnectError, InvalidRequest, Overloaded

from .decision import CERTIFICATE, UNKNOWN_HOST, Sign, sign
from .gate import NEVER_MET, PATIENCE, Gate
from .service import ENOUGH, SAME, Service, Whose

CHANCE = 1e-4
"""A target is down when its failures in a row are less likely than this, given the share that failed lately."""

RUN = 5
"""Least failures in a row that show that a target is down."""

LONGEST_RUN = 30
"""Failures in a row that show it whatever the share."""

LATELY = 400
"""Outcomes after which the counts behind that share are halved. Also the calls between two that found a server full,
within which it counts as full."""

SOME = 0.05
"""The share of failed calls above which a target is called degraded."""

GIVE_UP = 60.0
"""Seconds after which a target that was never reached is given up."""

NO_HOPE = 5.0
"""Seconds after which a target is given up whose name or certificate is wrong."""

WRONG = frozenset({UNKNOWN_HOST, CERTIFICATE})
"""Codes of a `ConnectError` that time does not mend."""

RECENT = 50
"""Answers that are remembered one by one."""

WORD = 1.0
"""Seconds of an outage before it is reported: most are over by then."""

CONFIRM = 0.4
"""Seconds until a target that has answered before is asked again whether it really refuses every call."""


class News(Struct, frozen=True):
    """Something that changed.

    Attributes:
        what: the target is down, or answers again; it is paused; others use its limits too; or one of its services is
            stopped, or answers again.
        service: the service concerned; None for all.
        reason: why, in words.
        until: when a pause ends.
    """

    what: Literal["down", "up", "paused", "crowded", "stopped", "resumed"]
    service: Service | None = None
    reason: str = ""
    until: float | None = None


class TargetHealth:
    """The health of one target. A call's number is its place in the order of sending.

    Args:
        give_up: seconds after which a target that was never reached is given up.

    Attributes:
        answers: calls answered so far.
        doubtful: whether calls go one at a time, because all so far were refused in the same words.
        trusted: whether calls are known to be answered, from a run file or a cache. Then the target is never doubtful.
        troubled: whether anything is wrong; if not, callers may skip `ready_at`.
        news: changes that were not told yet; whoever tells them clears the list.
        reason: the last failure of the target.
    """

    __slots__ = (
        "_answers_before",
        "_bad",
        "_forgiven",
        "_full",
        "_full_before",
        "_gate",
        "_latest",
        "_mark",
        "_moment",
        "_reached",
        "_recent",
        "_run",
        "_sent",
        "_services",
        "_told",
        "answers",
        "doubtful",
        "give_up",
        "news",
        "reason",
        "troubled",
        "trusted",
    )

    def __init__(self, give_up: float = GIVE_UP) -> None:
        self.give_up = give_up
        self.answers = 0
        self.doubtful = False
        self.trusted = False
        self.troubled = False
        self.news: list[News] = []
        self.reason: CallError | None = None
        self._services: dict[tuple[str, str], Service] = {}
        self._gate = Gate()
        self._sent = 0
        self._reached = False
        self._recent: deque[int] = deque(maxlen=RECENT)  # the last answered calls
        self._latest = 0  # the highest number of an answered call
        self._run: list[tuple[int, object]] = []  # calls that failed after it: number, and whose failure it may be
        self._mark = 0  # the last call sent when the target went down
        self._forgiven = 0  # the last call sent when it came back
        self._moment = 0  # the last call sent when the first failure of the run arrived
        self._full: tuple[object, int] = (None, -LATELY)  # the last call that found it full, and its number
        self._full_before = -LATELY  # the number of the last other call that found it full
        self._told = False  # whether it was told that the target is down
        self._bad, self._answers_before = 0.0, 0.0  # failures lately, and answers before that

    def __repr__(self) -> str:
        return f"TargetHealth({self.state}, {self._sent} sent, {self.answers} answered)"

    @property
    def state(self) -> Literal["healthy", "degraded", "down"]:
        """The target's state, apart from stopped services."""
        if not self._gate.open:
            return "down"
        good = self.answers - self._answers_before
        return "degraded" if self._bad > SOME * (self._bad + good) else "healthy"

    @property
    def down(self) -> bool:
        """Whether calls only go to look whether the target is back."""
        return self._gate.shut

    def service(self, name: str, target: str = "", *, spare: bool = False) -> Service:
        """The service of a name; each key of a group that shares one limit has its own."""
        return self._services.setdefault((name, target), Service(name, target, spare=spare))

    def down_for(self, now: float) -> float:
        """Seconds for which calls have only gone to look; 0 if the target is not down."""
        return self._gate.down_for(now) if self._gate.shut else 0.0

    def answered_since(self, number: int) -> int:
        """How many calls sent after this one were answered, out of the last `RECENT` answered calls."""
        return sum(recent > number for recent in self._recent)

    def ready_at(self) -> float:
        """When the next call may go."""
        return self._gate.ready_at()

    def sent(self, now: float) -> int:
        """A call is sent. Returns its number."""
        self._sent += 1
        if self.troubled:
            self._gate.take(now)
            self._tell(now)
            self._settle()
        return self._sent

    def answered(self, service: Service, number: int, now: float) -> None:
        """A call was answered, even if the answer cannot be used."""
        self.answers += 1
        self._recent.append(number)
        service.answered = True
        if self.troubled:
            self.doubtful = False
            if service.heard(number):
                self.news.append(News("resumed", service))
            self.alive(number, now)
        elif number > self._latest:
            self._latest = number

    def alive(self, number: int, now: float) -> None:
        """A call was refused for its content, so the target works."""
        self._reached = True
        done = bisect_right(self._run, number, key=_number)
        self._count(sum(whose is not None for _, whose in self._run[:done]))
        del self._run[:done]
        self._latest = max(self._latest, number)
        if self._gate.shut and number > self._mark:
            self._come_back(now)
        self._settle()

    def passed(self, number: int, now: float, *, throttled: bool = False) -> None:
        """A call ended in a way that says nothing about the target: it was cancelled, or refused for our speed."""
        if throttled and self._gate.shut:
            self.alive(number, now)
        elif self._run and number > self._latest:
            insort(self._run, (number, None), key=_number)

    def failed(self, call: object, error: CallError, number: int, now: float, *, full: bool = False) -> bool:
        """A call failed in a way that may be the target's fault.

        Args:
            call: any object that identifies the call.
            error: how it failed.
            number: its number.
            now: the present.
            full: whether the server is only full. The answer to that is fewer calls in flight.

        Returns:
            Whether the target is at fault. Then the failure costs the call no attempt.
        """
        self._reached = self._reached or error.status is not None
        self.reason = error
        if self._gate.shut:
            self._gate.wait(error.retry_after or 0.0, now)
            self._tell(now)
            self._give_up(error, now)
            return True
        excused = not self._gate.open or number <= self._forgiven or self._is_free(call, error, number)
        if number < self._latest:
            self._count(1)
            return excused
        self.troubled = True
        if full:
            self._run = [(earlier, None) for earlier, _ in self._run]
            insort(self._run, (number, None), key=_number)
            return excused
        if self._length(number, call if sign(error) is Sign.DOUBTFUL else number) >= self._enough():
            self._go_down(now)
            return True
        return excused

    def refused(self, service: Service, call: object, number: int, now: float, *, again: bool) -> Whose:
        """A call met a refusal that every call would meet; see `Service.refused`. While it is doubted, few calls go."""
        self.alive(number, now)
        whose = service.refused(call, number, self._sent, again=again)
        if whose == "doubted" and self._gate.open:
            self._gate.widen(now + CONFIRM, first=1)
            self.troubled = True
        return whose

    def rejected(self, service: Service, error: InvalidRequest, number: int, now: float) -> None:
        """A call was refused for its content, which costs nothing.

        If all of the first `SAME` are, in the same words, the others go one at a time. A job may begin with bad rows,
        and its good ones must not be lost. After `ENOUGH` the service is stopped.
        """
        self.alive(number, now)
        alike = 0 if self.trusted else service.rejected(f"{error.status} {error}")
        self.doubtful = SAME <= alike < ENOUGH and not self.answers
        self._settle()
        if alike >= ENOUGH:
            self.stop(service, error, now)

    def trust(self) -> None:
        """Calls are known to be answered."""
        self.trusted, self.doubtful = True, False
        self._settle()

    def stop(self, service: Service, error: CallError, now: float) -> None:
        """No call to a service can be answered: let only looks through."""
        if service.stop is None:
            self.news.append(News("stopped", service, str(error)))
        service.close(error, self._sent, now)
        self.troubled = True

    def _length(self, number: int, whose: object) -> int:
        """Add a failure. Returns the length of the run around it: calls that failed directly one after the other.

        Calls in flight when the run's first failure arrived may all have met the same moment, and count as one.
        """
        run = self._run
        at = bisect_left(run, number, key=_number)
        if not any(other is not None for _, other in run):
            self._moment = self._sent
        run.insert(at, (number, whose if number > self._moment else "one moment"))
        first = last = at
        while first > 0 and run[first - 1][0] == run[first][0] - 1 and at - first < LONGEST_RUN:
            first -= 1
        while last + 1 < len(run) and run[last + 1][0] == run[last][0] + 1 and last - at < LONGEST_RUN:
            last += 1
        return len({whose for _, whose in run[first : last + 1] if whose is not None})

    def _is_free(self, call: object, error: CallError, number: int) -> bool:
        """Whether a failure costs no attempt even while its target is well.

        Either nothing was sent, or the target was only full, and another call found that too.
        """
        if isinstance(error, Overloaded):
            by, at = self._full
            if by is not call:
                self._full, self._full_before = (call, number), at
            return number - self._full_before <= LATELY
        return isinstance(error, ConnectError)

    def _enough(self) -> float:
        """Failures in a row that are more than chance."""
        return min(LONGEST_RUN, max(RUN, math.log(CHANCE) / math.log(self._share())))

    def _share(self) -> float:
        """The share of calls that failed lately while others were answered."""
        good = self.answers - self._answers_before
        return min(0.99, (self._bad + 1.0) / (self._bad + good + 10.0))

    def _count(self, failures: int) -> None:
        if not failures:
            return
        self._bad += failures
        good = self.answers - self._answers_before
        if self._bad + good > LATELY:
            self._bad /= 2.0
            self._answers_before = self.answers - good / 2.0

    def _go_down(self, now: float) -> None:
        self._gate.close(now, PATIENCE if self.answers else NEVER_MET)
        self._mark = max(self._run[-1][0], self._latest)
        self._run.clear()
        self._told = False

    def _come_back(self, now: float) -> None:
        self._gate.widen(now)
        self._forgiven = self._sent
        if self._told:
            self._told = False
            self.news.append(News("up"))

    def _tell(self, now: float) -> None:
        if self._gate.shut and not self._told and self._gate.down_for(now) >= WORD:
            self._told = True
            self.news.append(News("down", reason=str(self.reason)))

    def _give_up(self, error: CallError, now: float) -> None:
        """Stop a target that was never reached."""
        if self._reached or self.answers or not isinstance(error, ConnectError):
            return
        seconds = min(self.give_up, NO_HOPE) if error.code in WRONG else self.give_up
        if self._gate.down_for(now) >= seconds:
            for service in self._services.values():
                self.stop(service, error, now)

    def _settle(self) -> None:
        """Whether anything is wrong still."""
        self.troubled = (
            self.doubtful
            or not self._gate.open
            or bool(self._run)
            or any(service.troubled for service in self._services.values())
        )


def _number(entry: tuple[int, object]) -> int:
    return entry[0]
