"""The ways in which a provider sells the same answer, side by side: at once, when it has time, or in a batch.

The facts are the providers' own, of November 2026. The price of a lane is the price list's; where the list has none, it
is the share of the live price that is given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from flatout.providers import registry
from flatout.values.plan import Lane, Range

HOUR = 3_600.0  # seconds


class _Offer(NamedTuple):
    """A lane of one provider.

    Attributes:
        share: its price as a share of the live one, if the price list has none; None if that is not known.
        within: seconds in which it promises an answer; None if it promises nothing.
        refuses: what it does not take.
    """

    share: float | None
    within: float | None
    refuses: str


_BATCH: Mapping[str, _Offer] = {
    "openai": _Offer(0.5, 24 * HOUR, "streams, and more than 50,000 calls or 200 MB in one batch"),
    "azure": _Offer(0.5, None, "streams, and more tokens than a deployment may have enqueued"),
    "anthropic": _Offer(0.5, 24 * HOUR, "streams, and more than 100,000 calls or 256 MB in one batch"),
    "gemini": _Offer(0.5, 48 * HOUR, "streams, and more than 2 GB in one batch"),
    "mistral": _Offer(0.5, 24 * HOUR, "streams, and more than 1,000,000 calls or 512 MB in one batch"),
    "groq": _Offer(0.5, 24 * HOUR, "streams, and more than 50,000 calls in one batch"),
    "together": _Offer(0.5, 24 * HOUR, "streams, and more than 50,000 calls or 100 MB in one batch"),
    "fireworks": _Offer(0.5, 72 * HOUR, "streams"),
    "xai": _Offer(None, None, "streams, and some models"),
    "openrouter": _Offer(0.5, None, "streams, and more than 5,000 calls in one batch"),
}

_FLEX: Mapping[str, _Offer] = {
    "openai": _Offer(0.5, None, "calls while it has no room (429, not billed); allow 15 minutes an answer"),
    "gemini": _Offer(0.5, None, "calls while it has no room (429, 503); allow 15 minutes an answer"),
    "groq": _Offer(1.0, None, "calls while it has no room (498)"),
}


def lanes(
    provider: str, live: tuple[Range | None, Range | None], shares: Mapping[str, float | None]
) -> tuple[Lane, ...]:
    """The lanes of a provider.

    Args:
        provider: its name.
        live: the cost and the seconds of the live lane.
        shares: for ``flex`` and ``batch``, the price as a share of the live one, from the price list; None if unknown.
    """
    cost, seconds = live
    return (
        Lane(name="live", cost=cost, seconds=seconds),
        _lane("flex", _FLEX.get(provider), cost, shares.get("flex")),
        _lane("batch", _BATCH.get(provider), cost, shares.get("batch"), usable=_is_spoken(provider)),
    )


def _is_spoken(provider: str) -> bool:
    """Whether flatout speaks the form of a provider's batches."""
    return registry.known(provider) and registry.BUILT_IN[provider].batch != ""


def _lane(name: str, offer: _Offer | None, live: Range | None, listed: float | None, *, usable: bool = True) -> Lane:
    if offer is None and listed is None:
        return Lane(name=name, offered=False)
    share = listed if listed is not None or offer is None else offer.share
    return Lane(
        name=name,
        cost=None if live is None or share is None else live.times(share),
        within=None if offer is None else offer.within,
        refuses="" if offer is None else offer.refuses,
        usable=usable,
    )
