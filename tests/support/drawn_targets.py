"""Targets with random settings from wide ranges, and a search that sends to them at full speed."""

from __future__ import annotations

import math
from random import Random

from flatout.testing._limits import Bucket, FixedWindow, SlidingWindow, Window

from .flat_out import FlatOut, Searching, Sender

LIMITS = {
    "bucket 1 s": lambda rpm: Bucket(rpm, burst=1.0, full=True),
    "bucket 20 s": lambda rpm: Bucket(rpm, burst=20.0, full=True),
    "bucket 60 s": lambda rpm: Bucket(rpm, burst=60.0, full=True),
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
}
"""Limits with a number of requests per minute, by their names."""


class Drawn:
    """The settings of one target, drawn from its seed."""

    def __init__(self, seed: int) -> None:
        random = Random(seed * 7919 + 13)
        self.seed = seed
        self.rate = 20 * 1_500 ** random.random() / 60
        self.kind = random.choice(["bucket", "bucket", "sliding", "fixed"])
        self.burst = 0.5 * 240 ** random.random()
        self.latency = 0.3 * 33 ** random.random()
        self.spread = math.log(random.uniform(3, 15)) / 2.326
        self.charged = random.random() < 0.3
        self.told = random.choice(["right", "right", "none", "minutes", "exaggerated"])
        self.strays = 0.0 if random.random() < 0.5 else random.uniform(0, 0.05)
        self.others = 0.0 if random.random() < 0.6 else random.uniform(0, 0.6)
        self.refusal = 0.02 * 10 ** random.random()
        self.share = self.rate * (1.0 - self.others)

    def __repr__(self) -> str:
        depth = f" of {self.burst:.1f} s" if self.kind == "bucket" else ""
        return (
            f"#{self.seed}: {self.rate:.2f}/s, {self.kind}{depth}, strays {self.strays:.1%}, others {self.others:.0%}, "
            f"{'charged, ' * self.charged}retry-after {self.told}"
        )

    def limit(self) -> Window:
        if self.kind == "bucket":
            return Bucket(60 * self.rate, burst=self.burst, full=True)
        return SlidingWindow(60 * self.rate) if self.kind == "sliding" else FixedWindow(60 * self.rate)

    def retry_after(self, wait: float) -> float | None:
        if self.told == "none":
            return None
        if self.told == "minutes":
            return 60.0 * math.ceil(wait / 60)
        return float(math.ceil(wait)) if self.told == "right" else 5.0 * wait + 10.0


class Target:
    """One drawn target. Others may use it too."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn, self.limit, self.random = drawn, drawn.limit(), Random(drawn.seed)
        self.others_at = 0.0

    def receive(self, now: float) -> tuple[bool, float, float | None]:
        """Whether a request is accepted, the seconds until the client knows it, and the Retry-After of a refusal."""
        drawn = self.drawn
        while drawn.others and self.others_at < now:
            self._charge(self.others_at)
            self.others_at += self.random.expovariate(drawn.rate * drawn.others)
        if self.random.random() < drawn.strays:
            return False, drawn.refusal, drawn.retry_after(1.0)
        if (wait := self._charge(now)) > 0:
            return False, drawn.refusal, drawn.retry_after(wait)
        return True, drawn.refusal + drawn.latency * math.exp(drawn.spread * self.random.gauss()), None

    def _charge(self, now: float) -> float:
        wait = self.limit.wait(now, 1)
        if wait <= 0:
            self.limit.take(now, 1)
        elif self.drawn.charged:
            self.limit.waste(now, 1)
        return wait


def used(drawn: Drawn, seconds: float, most: int = 1_000) -> tuple[int, int, int]:
    """Send at full speed for some seconds. Returns how many requests were sent, accepted and refused."""
    outcomes = list(FlatOut(Sender(Searching(), Target(drawn), most)).run(seconds))
    accepted, refused = (sum(counts) for counts in list(zip(*outcomes, strict=True))[1:])
    return accepted + refused, accepted, refused
