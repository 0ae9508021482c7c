"""What an attempt may cost at most. That much of a budget is reserved for it before it is sent."""

from __future__ import annotations

import logging

from flatout.errors import ConfigError
from flatout.policies.pacing.tokens import most_input, most_output
from flatout.policies.spending import ENOUGH
from flatout.values import Call, Target

from .prices import Prices

_log = logging.getLogger("flatout")


class WorstCases:
    """Says what attempts may cost.

    Attributes:
        allow_unknown_price: whether an attempt whose price is not known is counted as free, and not refused.
    """

    __slots__ = ("_told", "allow_unknown_price")

    def __init__(self, *, allow_unknown_price: bool = False) -> None:
        self.allow_unknown_price: bool = allow_unknown_price
        self._told = False  # that the length of answers is an assumption

    def of(
        self,
        target: Target,
        call: Call,
        prices: Prices,
        longest: int = 0,
        tokens: int | None = None,
        cap: int | None = None,
    ) -> float:
        """The most US dollars that one attempt may cost. Logs once if that rests on an assumption.

        Args:
            target: the target.
            call: the call.
            prices: the price list.
            longest: tokens of the longest answer that the target has given.
            tokens: the most tokens of the call's input, if they are known.
            cap: the most tokens of an answer without ``max_tokens``, if they are known.

        Raises:
            ConfigError: the price is not known, so a budget cannot be kept.
        """
        output = most_output(call, longest, cap)
        tokens = most_input(call) if tokens is None else tokens
        worst = prices.worst_case(target, tokens, output, service_tier=call.service_tier)
        if worst is None:
            if self.allow_unknown_price:
                return 0.0
            raise ConfigError(_unpriced(target, call, prices))
        if call.max_tokens is None and worst and not self._told and (cap is None or cap > output):
            self._told = True
            _log.warning(
                "without max_tokens, the budget assumes that an answer has at most %s tokens, until %s answers have "
                "shown how long they are; set it with max_tokens (--param max_tokens=…)",
                f"{output:,}",
                ENOUGH,
            )
        return worst


def _unpriced(target: Target, call: Call, prices: Prices) -> str:
    known = prices.worst_case(target, 0, 0) is not None  # then only the tier's price is unknown
    name = f"{target.name}@{call.service_tier}" if known else target.name
    return (
        f"the price of {name} is not known, so a budget cannot be kept: "
        f'give it in flatout.toml under [prices."{name}"], 0 for a server of your own; '
        "or leave such calls out of the budget with allow_unknown_price=True (--allow-unknown-price)"
    )
