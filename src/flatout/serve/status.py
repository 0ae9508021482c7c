"""Tells how the gateway stands: as JSON, and as Prometheus' text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins

from flatout.budgets import account as account_of
from flatout.client import engine_of
from flatout.client.commands import known
from flatout.errors import ConfigError
from flatout.http_server.answer import Answer
from flatout.http_server.requests import Request
from flatout.store.gateway import FACT, CallerServed, Served, served_by, summed
from flatout.values.accounts import Account
from flatout.values.budget import Budget

from .callers import OTHERS, Caller, Callers
from .gate import Gate
from .keys import Keyring
from .site import send_json

if TYPE_CHECKING:
    from flatout.client import Client
    from flatout.store import RunFile

EACH = 1.0
"""Seconds between two looks whether the run file should be told something."""

MOST = 100
"""Most callers that it is told of one by one."""

TEXT = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}


class Status:
    """The pages ``/status`` and ``/metrics``. A key is shown itself, of the callers; without keys all are.

    Args:
        client: whose targets are shown.
        gate: where calls wait.
        callers: those who have asked.
        keyring: the local keys: who has one is shown before it asks.

    Attributes:
        more: more metrics, as Prometheus' text. It is called in a thread.
    """

    def __init__(self, client: Client, gate: Gate, callers: Callers, keyring: Keyring) -> None:
        self._client = client
        self._keyring = keyring
        self._gate = gate
        self._callers = callers
        self._accounts: dict[Budget, Account] = {}  # how budgets stood when somebody looked last
        self.more: Callable[[], bytes] = bytes

    async def json(self, request: Request, answer: Answer, caller: Caller) -> None:
        """How things stand, as JSON."""
        await self._look()
        send_json(answer, self.now(caller))

    async def metrics(self, request: Request, answer: Answer, caller: Caller) -> None:
        """How things stand, as text for Prometheus."""
        own = "".join(f"{line}\n" for line in self._lines(caller)).encode()
        answer.send(200, TEXT, own + await asyncio.to_thread(self.more))

    def now(self, to: Caller | None = None) -> dict[str, Any]:
        """How things stand.

        Args:
            to: who asks, and may not be shown all; None for nobody.
        """
        client, gate = self._client, self._gate
        purse = engine_of(client).stack.purse
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
            "callers": [self._caller(each) for each in self._shown(to)],
        }

    def _shown(self, to: Caller | None) -> Iterable[Caller]:
        """The callers that one of them is shown."""
        if to is None or to.allowed.sees_all or not self._keyring:
            return *self._callers, *self._silent()
        return (to,)

    def _silent(self) -> Iterator[Caller]:
        """Those who have a key, and have not asked."""
        return (Caller(key.name, key.allowed) for key in self._keyring if key.name not in self._callers)

    @asynccontextmanager
    async def kept_in(self, store: RunFile) -> AsyncIterator[None]:
        """A block in which a run file records what each caller has done, added to what earlier processes recorded."""
        before = (await asyncio.to_thread(served_by, store)).settled()
        keeping = asyncio.create_task(self._keep(store, before))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            store.set_fact(FACT, to_builtins(self._served(before, serving=False)))

    async def _keep(self, store: RunFile, before: Served) -> None:
        told: Served | None = None
        while True:
            now = self._served(before, serving=True)
            if now != told:
                told = now
                store.set_fact(FACT, to_builtins(now))
            await asyncio.sleep(EACH)

    def _served(self, before: Served, *, serving: bool) -> Served:
        """What the callers have done. If there are many, the busiest are told apart."""
        now = asyncio.get_running_loop().time()
        known = {each.caller: each for each in before.callers}
        for each in self._callers:
            done = self._served_to(each, now)
            known[each.name] = done.plus(known[each.name]) if each.name in known else done
        together = known.pop(OTHERS, CallerServed(OTHERS))  # those that were not told apart before
        busiest = sorted(known.values(), key=lambda each: -each.calls)
        others = reduce(CallerServed.plus, busiest[MOST:], together)
        return Served(
            [*busiest[:MOST], others] if others.calls else busiest[:MOST],
            summed([*before.failures, *(found for each in self._callers for found in each.failures.values())]),
            serving=serving,
            at_least=before.at_least,
        )

    def _served_to(self, caller: Caller, now: float) -> CallerServed:
        waiting = self._gate.waits_of(caller.name)
        holds = caller.holds(now) if waiting else ""
        return CallerServed(
            caller.name,
            calls=caller.calls,
            failed=caller.failed,
            hung_up=caller.hung_up,
            waiting=waiting,
            open=waiting + caller.inside,
            holds=holds or ("budget" if caller.lacks_money else ""),
            allowed=getattr(caller.allowed, holds) if holds else None,
            spent=caller.cost,
            unpriced=caller.unpriced,
        )

    async def _look(self) -> None:
        """Look how the callers' budgets stand, so that this tells the same as ``flatout budget ls``."""
        budgets = {each.allowed.budget for each in self._callers} - {None}
        found = await asyncio.gather(*(asyncio.to_thread(_account, each) for each in budgets if each is not None))
        self._accounts = {each: account for each, account in found if account is not None}

    def _caller(self, caller: Caller) -> dict[str, Any]:
        budget = caller.allowed.budget
        account = None if budget is None else self._accounts.get(budget)
        waiting = self._gate.waits_of(caller.name)
        spent = known(caller.cost, caller.unpriced)
        return {
            "caller": caller.name,
            "calls": caller.calls,
            "failed": caller.failed,
            "failures": {each.error: each.calls for each in caller.failures.values()},
            "hung_up": caller.hung_up,
            "waiting": waiting,
            "holds": self._holds(caller),
            "inside": caller.inside,
            "spent": None if spent is None else round(spent, 6),
            "unknown_costs": caller.unpriced,
            "budget": None if budget is None else str(budget),
            "budget_spent": None if account is None else round(account.spent, 6),
            "lent": None if account is None else round(sum(each.usd for each in account.lent), 6),
            "left": None if account is None else round(account.left, 6),
        }

    def _holds(self, caller: Caller) -> str:
        """What calls of a caller wait for; "" for nothing of its own."""
        own = caller.holds(asyncio.get_running_loop().time()) if self._gate.waits_of(caller.name) else ""
        return own or ("budget" if caller.lacks_money else "")

    def _lines(self, to: Caller) -> Iterator[str]:
        now = self.now(to)
        callers, targets = now["callers"], now["targets"]
        yield from _metric(
            "flatout_gateway_waiting", "gauge", "Calls that wait for their turn.", [("", now["waiting"])]
        )
        for name, key, kind, about in _OF_CALLERS:
            told = [each for each in callers if each[key] is not None]
            yield from _metric(name, kind, about, [(f'{{caller="{_safe(c["caller"])}"}}', c[key]) for c in told])
        for name, key, kind, about in _OF_TARGETS:
            yield from _metric(name, kind, about, [(f'{{target="{_safe(t["target"])}"}}', t[key]) for t in targets])


_OF_CALLERS = (
    ("flatout_gateway_calls_total", "calls", "counter", "Calls by caller."),
    ("flatout_gateway_failed_total", "failed", "counter", "Calls that ended with an error."),
    ("flatout_gateway_hung_up_total", "hung_up", "counter", "Calls whose client did not wait for the answer."),
    ("flatout_gateway_inside", "inside", "gauge", "Calls that had their turn, and have not ended."),
    ("flatout_gateway_queued", "waiting", "gauge", "Calls that wait for their turn, by caller."),
    ("flatout_gateway_spent_dollars_total", "spent", "counter", "US dollars known to be spent."),
    ("flatout_gateway_unpriced_total", "unknown_costs", "counter", "Calls of unknown cost."),
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


def _account(budget: Budget) -> tuple[Budget, Account | None]:
    """How a key's budget stands; None if that cannot be known now."""
    per, scope = budget.per, budget.shared or ""
    try:
        return budget, account_of(per, scope) or Account(per, scope, budget.usd, 0.0, (), None)
    except ConfigError:
        return budget, None
