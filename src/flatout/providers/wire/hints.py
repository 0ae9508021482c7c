"""Hints on ``extra``: it is sent as it is, so a slip in it would be known only by the provider's refusal, if at all."""

from __future__ import annotations

import logging
from difflib import get_close_matches

from flatout.text.once import Once

_log = logging.getLogger("flatout")

_OWN = (
    *("max_tokens", "temperature", "top_p", "stop", "seed", "logprobs", "reasoning_effort", "service_tier"),
    *("tools", "tool_choice"),
)
"""What a Call calls by the name that most providers use."""

_ELSEWHERE = {
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens", "maxOutputTokens", "max_new_tokens"), "max_tokens"),
    **dict.fromkeys(("stop_sequences", "stopSequences"), "stop"),
    "topP": "top_p",
    "response_format": "output",
}
"""Other providers' names for what a Call has a name for, which every provider then understands."""

_ALIKE = 0.88
"""How alike a slip is to the name that was meant; ``top_k`` and ``top_p`` are less so."""


first_time = Once()


def hint_at(name: str) -> None:
    """Say which parameter was probably meant by a name in ``extra``; once."""
    if not first_time(name):
        return
    if name in _ELSEWHERE:
        _log.info("the parameter %s is sent as it is; as %s, flatout would know of it", name, _ELSEWHERE[name])
    elif name not in _OWN and (close := get_close_matches(name, _OWN, n=1, cutoff=_ALIKE)):
        _log.warning("the parameter %s is not known, and sent as it is; did you mean %s?", name, close[0])
