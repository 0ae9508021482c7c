"""Tells how the gateway stands: as JSON, and as Prometheus' text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flatout.commands import known
from flatout.serving.answer import Answer
from flatout.serving.requests import Request

from .callers import Caller, Callers
from .gate import Gate
from .site import send_json

if TYPE_CHECKING:
    from flatout.client import Client

TEXT = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}


class Status:
    """The pages ``/status`` and ``/metrics``.

    Args:
        client: whose targets are shown.
        gate: where calls wait.
        callers: those who have asked.

    Attributes:
        more: more metrics, as Prometheus' text. It is called in a thread.
    """

    def __init__(self, client: Client, gate: Gate, callers: Callers) -> None:
        self._client = client
        self._gate = gate
        self._callers = callers
        self.more: Callable[[], bytes] = bytes

    async def json(self, request: Request, answer: Answer, caller: Caller) -> None:
        """How things stand, as JSON."""
        send_json(answer, self.now())

    async def metrics(self, request: Request, answer: Answer, caller: Caller) -> None:
        """The same as Prometheus' text."""
        own = "".join(f"{line}\n" for line in self._lines()).encode()
        answer.send(200, TEXT, own + await asyncio.to_thread(self.more))

    def now(self) -> dict[str, Any]:
        """How things stand."""
        client, gate = self._client, self._gate
        purse = client.purse
        spent = None if purse.bills else known(purse.spent, purse.unknown)
        return {
            "waiting": gate.waiting,
            "waiting_bytes": gate.bytes,
            "spent": None if spent is None else round(spent, 6),
            "unknown_costs": None if purse.bills else purse.unknown,
            "targets": [
                {
                    "target": each.target,
                    "in_flight": each.in_flight,
                    "waiting": each.waiting,
                    "holds": each.holds,
                    "limits": dict(each.allows),
                }
                for each in client.status()
            ],
            "callers": [self._caller(each) for each in self._callers],
        }

    def _caller(self, caller: Caller) -> dict[str, Any]:
        purse = caller.purse
        standing = None if purse is None else purse.standing()
        return {
            "caller": caller.name,
            "calls": caller.calls,
            "failed": caller.failed,
            "hung_up": caller.hung_up,
            "waiting": self._gate.waits_of(caller.name),
            "inside": caller.inside,
            "spent": round(caller.cost, 6),
            "budget": None if standing is None else standing.budget,
            "left": None if standing is None else standing.left,
        }

    def _lines(self) -> Iterator[str]:
        now = self.now()
        callers, targets = now["callers"], now["targets"]
        yield from _metric(
            "flatout_gateway_waiting", "gauge", "Calls that wait for their turn.", [("", now["waiting"])]
        )
        for name, key, kind, about in _OF_CALLERS:
            yield from _metric(name, kind, about, [(f'{{caller="{_safe(c["caller"])}"}}', c[key]) for c in callers])
        for name, key, kind, about in _OF_TARGETS:
            yield from _metric(name, kind, about, [(f'{{target="{_safe(t["target"])}"}}', t[key]) for t in targets])


_OF_CALLERS = (
    ("flatout_gateway_calls_total", "calls", "counter", "Calls by caller."),
    ("flatout_gateway_failed_total", "failed", "counter", "Calls that ended with an error."),
    ("flatout_gateway_hung_up_total", "hung_up", "counter", "Calls whose client did not wait for the answer."),
    ("flatout_gateway_inside", "inside", "gauge", "Calls that had their turn, and have not ended."),
    ("flatout_gateway_queued", "waiting", "gauge", "Calls that wait for their turn, by caller."),
    ("flatout_gateway_spent_dollars_total", "spent", "counter", "US dollars known to be spent."),
)

_OF_TARGETS = (
    ("flatout_gateway_target_in_flight", "in_flight", "gauge", "Attempts on the wire."),
    ("flatout_gateway_target_waiting", "waiting", "gauge", "Attempts that wait for the target's limits."),
)


def _metric(name: str, kind: str, about: str, values: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values:
        yield f"{name}{labels} {value}"


def _safe(text: str) -> str:
    """A label's value: names of callers come from users."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
