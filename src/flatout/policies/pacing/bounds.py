"""What bounds the requests to one target, whatever it is known from: given by the user, told by the provider, or found.

Two things always hold here:

- A search is at work only where no limit is known, or where the known ones were refused again and again.
- Once a limit per time is known, only the user's own bound and what a server without room was seen to take bound the
  number in flight.
"""

from __future__ import annotations

import math

from flatout.values import Limits

from .ahead import MINUTE
from .axes import Axes
from .axis import per_window
from .backlog import START, Backlog
from .charge import Charge
from .discovery import IN_FLIGHT, Discovery
from .in_flight import InFlight
from .reliance import Reliance
from .sharing import Shared
from .strays import tolerance
from .tokens import Need
from .trials import Trials

TIMID = 1.0 / 8.0
"""If no limit per time is known and the rate is refused, the search begins at this share of the present rate."""


class Bounds:
    """What bounds the requests to one target.

    Args:
        limits: what the user gave.
        now: the present.
        charge: how the provider charges tokens.
        trials: what is tried ahead of the limits.
        self_hosted: where neither rate nor concurrency is known, adapt the concurrency.
        requests_per_day: whether the provider's headers on requests count by the day.
        shared: what other programs hold in common with this one.
        learnt: requests per second that an earlier run found, where no limit is known.

    Attributes:
        limits: what the user gave.
        axes: the known limits per time.
        discovery: the search for an unknown limit.
        in_flight: how many requests may be in flight.
        reliance: whether the known limits can be relied on.
    """

    __slots__ = ("_shares", "axes", "discovery", "in_flight", "limits", "reliance")

    def __init__(
        self,
        limits: Limits,
        now: float,
        charge: Charge,
        trials: Trials,
        *,
        self_hosted: bool = False,
        requests_per_day: bool = False,
        shared: Shared | None = None,
        learnt: float | None = None,
    ) -> None:
        self.limits = limits
        self._shares = shared is not None
        self.axes = Axes(limits, now, charge, trials, requests_per_day=requests_per_day, shared=shared)
        by_rate = (limits.adaptive or ("concurrency" if self_hosted else "rate")) == "rate"
        self.discovery = Discovery(by_rate=by_rate, together=shared.together() if shared is not None else None)
        bare = self._bare
        self.in_flight = InFlight(
            limits.concurrency,
            self.discovery,
            bounded=self._paced,
            backlog=Backlog(IN_FLIGHT, START if learnt is None else IN_FLIGHT) if bare and by_rate else None,
            members=shared.members if shared is not None else None,
        )
        if bare:
            self.discovery.begin(now, learnt)
            self.catch_up(now)
        self.reliance = Reliance(tolerance(limits, paced=self._paced), self.axes.by_name, now)

    @property
    def overruled(self) -> bool:
        """Whether the provider refuses again and again what known limits allow: others seem to use them too."""
        return bool(self.axes.by_name) and (self.discovery.search is not None or self.reliance.others_use_them)

    def found(self) -> dict[str, float]:
        """The limits per time that the user did not give: advertised, or found by trying; see `Pacer.found`."""
        given = {name: limit for name, limit, _ in per_window(self.limits)}
        rates, search = self.axes.rates(), self.discovery.search
        if search is not None and search.found:
            rates["rpm"] = search.rate * MINUTE
        return {name: rate for name, rate in rates.items() if rate != given.get(name)}

    def allow(self) -> dict[str, float]:
        """The limits in force, by their names in `Limits`: per minute or day, and the most in flight at once."""
        found, most = self.axes.rates(), self.in_flight.most
        return found if most is None else {**found, "concurrency": most}

    @property
    def tries_concurrency(self) -> bool:
        """Whether the most in flight at once is found by trying: the user gave none, or a larger one."""
        most, given = self.in_flight.most, self.limits.concurrency
        return most is not None and (given is None or most < given)

    def scale(self, share: float) -> None:
        """Change every limit to a share of it, with nothing in flight."""
        self.axes.scale(share)
        self.in_flight.scale(share)

    def change(self, limits: Limits, now: float) -> None:
        """The user gives other limits; see `Pacer.change`."""
        self.catch_up(now)
        before = self.axes.rates()
        changed, self.limits = limits.concurrency != self.limits.concurrency, limits
        self.axes.change(limits, now, self.in_flight.own)
        discovery, bare = self.discovery, self._bare
        if changed or bare:
            backlog = Backlog(IN_FLIGHT, IN_FLIGHT) if bare and discovery.by_rate else None
            self.in_flight.change(limits.concurrency, bounded=self._paced, backlog=backlog)
        if not bare:
            self.know_more()
        elif discovery.search is None and discovery.aimd is None:
            rate = before.get("rpm")
            discovery.begin(now, None if rate is None else rate / MINUTE)
            self.catch_up(now)
        self.reliance = Reliance(tolerance(limits, paced=self._paced), self.axes.by_name, now)

    def refused(self, need: Need, sent: float, now: float, *, news: bool) -> None:
        """A refusal concerns all calls: correct what is known of the limits.

        Args:
            need: the call's need, as it was admitted.
            sent: when the call was sent.
            now: the present.
            news: whether the call was sent after the last pause began.
        """
        discovery = self.discovery
        if news:
            self.reliance.note_use(self.axes.by_name, now)
        self.axes.refused(now)
        if discovery.aimd is not None:
            discovery.aimd.pushed_back(sent, now, max(need.at, self.in_flight.count))
        elif discovery.search is None and discovery.by_rate and self._are_wrong(news):
            self._search_below(need, sent, now)

    def catch_up(self, now: float) -> None:
        """Learn what other programs have come to know."""
        if self._shares:
            known, given = self.axes.catch_up(now), self.in_flight.catch_up()
            if known or given:
                self.know_more()
            self.discovery.catch_up(now)

    def know_more(self) -> None:
        """A new limit became known: end the search for it."""
        self.discovery.end()
        self.in_flight.unbind()

    @property
    def _paced(self) -> bool:
        """Whether a limit per minute is known."""
        return bool(self.axes.by_name.keys() - {"rpd"})

    @property
    def _bare(self) -> bool:
        """Whether neither a limit per minute nor one on requests in flight is known."""
        return self.limits.concurrency is None and not self._paced

    def _are_wrong(self, news: bool) -> bool:
        """Whether the known limits, if any, cannot be relied on."""
        return self.reliance.refused(news=news) or not self.axes.by_name

    def _search_below(self, need: Need, sent: float, now: float) -> None:
        """Search for a rate below what the known limits allow, or below what was sent where none of them is a rate."""
        ceiling = self.axes.requests_per_second(need)
        sent_before = self.in_flight.own / max(0.1, now - sent)
        rate = self.reliance.share * ceiling if ceiling < math.inf else TIMID * sent_before
        self.discovery.begin_below(now, max(1.0, rate), ceiling)
        self.catch_up(now)
