"""How large a batch may be after the provider refused one for its size."""

from __future__ import annotations

import re

PER_TOKEN = 3.2
"""Bytes of a request's JSON for each token of its prompt. English has four to five of text; this leaves some room."""

_LIMIT = re.compile(
    r"limit\b.{0,20}?(\d[\d,_]{0,18})\s{0,4}(?:enqueued\s{1,4})?(?:prompt\s{1,4})?tokens|(\d[\d,_]{0,18})\s{1,4}enqueued",
    re.IGNORECASE,
)
"""OpenAI: "Enqueued token limit reached for gpt-4o in organization org-x. Limit: 90,000 enqueued tokens."."""


def smaller(rows: int, size: int, reason: str) -> int:
    """The most rows of the next batch, after one was too large.

    It is at most half of them. If the provider names the tokens that it takes, it may be far less at once: from 50,000
    rows to 500, each half would be one more upload, and one more wait for its refusal.

    Args:
        rows: how many rows the batch had.
        size: its bytes.
        reason: the provider's words.
    """
    half = (rows + 1) // 2
    limit = named_limit(reason)
    if limit is None or size <= 0:
        return half
    return max(1, min(half, int(rows * (limit * PER_TOKEN / size))))


def named_limit(reason: str) -> int | None:
    """The tokens that a refusal says the queue takes; None if it names none."""
    match = _LIMIT.search(reason)
    if match is None:
        return None
    tokens = int((match[1] or match[2]).replace(",", "").replace("_", ""))
    return tokens or None
