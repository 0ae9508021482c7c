"""One target in the batch lane, with everything that works for it."""

from __future__ import annotations

from collections.abc import Callable

from flatout.engine import Engine
from flatout.lanes.offers import batch_format
from flatout.layer import Codec
from flatout.store.ledger import Ledger
from flatout.values import Target

from .box import Box
from .collect import Collector
from .desk import Desk
from .form import Form
from .replay import Replay
from .submit import Submitter
from .wire import Wire

MOST_BYTES = 64 * 1024 * 1024
"""The most bytes of one batch, whatever its provider takes: it is packed in memory."""


class LaneTarget:
    """One target in the lane: its desk, who works there, and the boxes that are being filled."""

    def __init__(self, engine: Engine, target: Target, ledger: Ledger, wall: Callable[[], float], form: Form) -> None:
        spoken = batch_format(target, form.kind(target))
        self.desk = Desk(target, spoken, Wire(engine.transport, spoken, target.endpoint), ledger, wall)
        self.submitter = Submitter(self.desk)
        self.collector = Collector(self.desk, self.submitter)
        stack = engine.stack
        self.codec: Codec = form.codec(target)
        cache = stack.cache if form.cached else None
        self.replay = Replay(target, self.codec, engine.settings, stack.prices, stack.purse, engine.events, cache)
        self.boxes: dict[int | None, Box] = {}
        self.deferred = 0

    def box(self, most: int | None) -> Box:
        """The box for rows whose batch may hold ``most`` rows; None for as many as the provider takes."""
        if most not in self.boxes:
            caps = self.desk.format.caps
            rows = min(self.desk.most, caps.rows if most is None else most)
            self.boxes[most] = Box(rows, min(caps.size, MOST_BYTES), caps.around)
        return self.boxes[most]
