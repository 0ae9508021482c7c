"""What others wrote, as it may be shown."""

from __future__ import annotations

from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.text.visible import visible, visible_lines


@given(st.text())
def test_every_character_of_any_text_can_be_seen(text: str) -> None:
    """A message could move the cursor, colour the terminal, or read otherwise than it is."""
    unseen = ("Cc", "Cf", "Cs", "Zl", "Zp")
    assert not any(category(character) in unseen for character in visible(text))
    assert not any(category(character) in unseen for character in visible_lines(text) if character not in "\t\n")
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize("text", ["", "plain", "ČšÜ 界 🎉 مرحبا", "e\u0301", "1\u00a0000"])
def test_text_that_can_be_seen_stays(text: str) -> None:
    """Messages in other scripts could not be read any more."""
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b2J", r"\x9b2J"),
        ("ab\u202ecd", r"ab\u202ecd"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("pay\u200bpal", r"pay\u200bpal"),
        ("\ufeffa", r"\ufeffa"),
        ("\u3164", r"\u3164"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_text(text: str, shown: str) -> None:
    """A name with a letter of no width would look like another name; what was taken out would not be missed."""
    assert visible(text) == shown
