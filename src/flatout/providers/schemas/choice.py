"""Recognise one of several words as models write it: in another case, emphasised, with a full stop, or in a sentence.

A wrong label is worse than asking again. So a sentence counts only if it ends with one choice, and every other word in
it is a known lead-in. "not", "perhaps" or a word of another language might reverse its meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

MOST = 200
"""Characters of a short answer. Longer ones are not searched for a choice."""

_AROUND = " \t\r\n*_`\"'“”‘’.:"
"""Characters around a word that change nothing: emphasis, quotation marks, a final full stop."""

_LEADS = frozenset({
    *("a", "an", "and", "here", "i", "i'd", "in", "is", "it", "it's", "my", "of", "that", "that's", "the", "this"),
    *("as", "be", "belongs", "classified", "classify", "falls", "for", "given", "say", "to", "under", "would"),
    *("answer", "category", "choice", "class", "classification", "label", "option", "output", "rating", "result"),
    *("email", "mail", "message", "review", "sentence", "sentiment", "text", "verdict"),
    *("best", "clearly", "correct", "final", "therefore"),
})  # fmt: skip
"""Words that lead up to an answer without changing its meaning."""


def choice_in(text: str, choices: Sequence[Any]) -> tuple[Any] | None:
    """The one choice that a short text names, in a tuple since the choice may be None; None if there is any doubt."""
    if len(text) > max(MOST, *(len(_word(choice)) for choice in choices)):
        return None
    by_word = {_word(choice): choice for choice in choices}
    bare = text.strip()
    if bare in by_word:
        return (by_word[bare],)
    folded: dict[str, list[Any]] = {}
    for word, choice in by_word.items():
        folded.setdefault(word.casefold(), []).append(choice)
    answer = bare.casefold()
    alone = folded.get(answer) or folded.get(answer.strip(_AROUND)) or _choice_at_end(answer, folded)
    return (alone[0],) if alone is not None and len(alone) == 1 else None


def _choice_at_end(answer: str, folded: dict[str, list[Any]]) -> list[Any] | None:
    """The choice at the end of a sentence; None if anything in the sentence is in doubt."""
    words = "|".join(re.escape(word) for word in sorted(folded, key=len, reverse=True) if word)
    named = list(re.finditer(rf"(?<![\w-])(?:{words})(?![\w-])", answer))
    if len(named) != 1 or answer[named[0].end() :].strip(_AROUND):
        return None
    before = (word.strip(_AROUND + ",") for word in answer[: named[0].start()].replace("’", "'").split())
    return folded[named[0][0]] if all(word in _LEADS for word in before if word) else None


def _word(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice, default=str)
