"""A cap on retries as a share of traffic.

Why not just a number of attempts per call? When a provider is down every call fails, and three attempts each are
three times the traffic, at the worst moment and at the user's cost. A share of traffic lets the odd failure be
retried freely and makes a general one visible soon. The idea and the 20 % are Finagle's (``RetryBudget``); the
starting reserve is there because a small batch has no traffic to earn retries from.
"""

from __future__ import annotations


class RetryQuota:
    """A token bucket without a clock: calls deposit, retries withdraw.

    Args:
        share: what each call adds, in retries; 0.2 allows retries to be a fifth of the calls.
        reserve: retries that may be made before any call has deposited.
        most: the most retries that can be saved up, so that a long quiet run does not earn the right to a storm.

    Raises:
        ValueError: ``share`` or ``reserve`` is negative, or ``reserve`` is above ``most``.
    """

    __slots__ = ("_balance", "_most", "_share")

    def __init__(self, *, share: float = 0.2, reserve: float = 100.0, most: float = 1_000.0) -> None:
        if not (share >= 0 and 0 <= reserve <= most):
            raise ValueError("a retry quota needs share >= 0 and 0 <= reserve <= most")
        self._share = share
        self._most = most
        self._balance = float(reserve)

    @property
    def balance(self) -> float:
        """Retries that may be made now."""
        return self._balance

    def deposit(self) -> None:
        """Count one call. Its retries are not calls and deposit nothing."""
        self._balance = min(self._most, self._balance + self._share)

    def withdraw(self) -> bool:
        """Take one retry; False when the quota is used up."""
        # Ten deposits of 0.1 must buy one retry, although floating point makes a little less of their sum.
        if self._balance < 1 - 1e-9:
            return False
        self._balance = max(0.0, self._balance - 1)
        return True

    def __repr__(self) -> str:
        return f"RetryQuota({self._balance:.1f} of {self._most:g}, +{self._share:g} a call)"
