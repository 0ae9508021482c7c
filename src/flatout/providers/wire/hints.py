"""Hints about ``extra``. It is sent unchanged, so only the provider would notice a misspelt name in it, if at all."""

from __future__ import annotations

import logging
from difflib import get_close_matches

from flatout.text.once import Once

_log = logging.getLogger("flatout")

_OWN = (
    *("max_tokens", "temperature", "top_p", "stop", "seed", "logprobs", "reasoning_effort", "service_tier"),
    *("tools", "tool_choice"),
)
"""Parameters of a Call whose names most providers share."""

_ELSEWHERE = {
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens", "maxOutputTokens", "max_new_tokens"), "max_tokens"),
    **dict.fromkeys(("stop_sequences", "stopSequences"), "stop"),
    "topP": "top_p",
    "response_format": "output",
}
"""Other providers' names for parameters of a Call. The Call's own name works with every provider."""

_ALIKE = 0.88
"""How similar a misspelt name is to the intended one, from 0 to 1. ``top_k`` and ``top_p`` are less similar."""


first_time = Once()


def hint_at(name: str) -> None:
    """Log which parameter a name in ``extra`` probably means, once per name."""
    if not first_time(name):
        return
    if name in _ELSEWHERE:
        _log.info("the parameter %s is sent as it is; as %s, flatout would know it", name, _ELSEWHERE[name])
    elif name not in _OWN and (close := get_close_matches(name, _OWN, n=1, cutoff=_ALIKE)):
        _log.warning("the parameter %s is unknown, and sent as it is; did you mean %s?", name, close[0])
