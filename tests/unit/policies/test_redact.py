"""Keys stay out of texts, in whatever encoding they are quoted."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.layer import Request
from flatout.text.redact import LEAD, SHORTEST, excerpt, redact, redact_url, secrets_among, secrets_in

KEY = 'Zk/9+b&c=d"e-fgh%ijkl~mnop<qr'

LETTERS = st.characters(min_codepoint=33, max_codepoint=126)
KEYS = st.lists(LETTERS, min_size=LEAD + 1, max_size=60, unique=True).map("".join)
PIECES = st.text('"\\/a', min_size=1, max_size=4)
REPETITIVE = st.builds(lambda unit, times, end: unit * times + end, PIECES, st.integers(SHORTEST, 9), PIECES)

ENCODINGS = {
    "plain": str,
    "json": lambda key: json.dumps(key)[1:-1],
    "json with escaped slashes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "html": escape,
    "percent": lambda key: quote(key, safe=""),
    "percent, in lower case": lambda key: re.sub("%..", lambda code: code[0].lower(), quote(key, safe="")),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 of a URL": lambda key: urlsafe_b64encode(key.encode()).decode(),
    "its beginning": lambda key: key[:LEAD],
    "most of it": lambda key: key[:-1],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_known_secret_goes_in_every_encoding(encoding: str) -> None:
    """A server that quotes the key in another encoding would put it into logs and run files."""
    quoted = ENCODINGS[encoding](KEY)
    shown = redact(f"the server said: {quoted} is wrong", (KEY,))
    assert not any(quoted[at : at + LEAD] in shown for at in range(len(quoted) - LEAD + 1))
    assert shown.endswith(" is wrong")
    assert shown.startswith("the server said: ")


@pytest.mark.parametrize(
    ("secrets", "text"),
    [
        (('"00000000\\\\',), '"00000000\\\\' * 2),  # the end of one and the next are its form in JSON
        ((16 * "a" + "-and-its-end",), 19 * "a" + "-and-its-end"),  # its beginning, from two places on
        (("abcabcabcabcabc",), "abc" * 6 + "ab"),
        (("first-secret-of-two", "two-secrets-are-here"), "first-secret-of-two-secrets-are-here"),
    ],
    ids=["a copy after a copy", "a beginning before it", "a period", "two of them"],
)
def test_secrets_that_overlap_go_whole(secrets: tuple[str, ...], text: str) -> None:
    """What is taken out for one would leave the rest of another, no longer known, in logs and run files."""
    assert set(redact(f"({text})", secrets)) == {"(", "…", ")"}


@given(REPETITIVE, st.integers(1, 4), st.sampled_from([*ENCODINGS][:4]))
def test_nothing_of_a_secret_is_left_however_often_it_is_quoted(key: str, times: int, encoding: str) -> None:
    """A secret that resembles its own end, or its other forms, would be taken out by half."""
    assert set(redact(ENCODINGS[encoding](key) * times, (key,))) == {"…"}


@given(KEYS, st.binary(max_size=5), st.binary(max_size=5))
def test_base64_is_known_wherever_the_secret_stands_in_it(key: str, before: bytes, after: bytes) -> None:
    """A key in basic credentials would be known for a user's name of some lengths, and not of others."""
    shown = redact(b64encode(before + key.encode() + after).decode(), (key,))
    assert "…" in shown
    # What is left besides the others: a mark, and letters that hold bits of two.
    assert len(shown) <= len(b64encode(before)) + len(b64encode(after)) + 5


@given(st.text(max_size=200), KEYS, st.integers(1, 100))
def test_an_excerpt_holds_no_secret_and_no_half_of_one(noise: str, key: str, most: int) -> None:
    """A key across the cut of a long text would be kept by half."""
    shown = excerpt(f"{key} {key}{key}{noise}{key}", most, lambda text: redact(text, (key,)))
    assert len(shown) <= most
    assert key[:LEAD] not in shown or key[:LEAD] in noise


def test_an_excerpt_shows_no_beginning_of_a_key_that_its_own_cut_made() -> None:
    """After many keys were taken out, the text's end comes into sight, and there half a key may stand."""
    text = f"{KEY} " * 50
    for most in range(1, 400):
        assert KEY[:4] not in excerpt(text, most, lambda text: redact(text, (KEY,)))


def test_an_address_shows_neither_password_nor_key() -> None:
    """The key of a provider that takes it in the URL would stand in every message about the URL."""
    shown = redact_url("https://me:hidden@host.test:8000/v1/models?key=hidden&api-version=2024-10-21&sig=hidden")
    assert "hidden" not in shown
    assert shown.startswith("https://…@host.test:8000/v1/models?key=…&api-version=2024-10-21&")
    assert redact_url("http://host.test/v1/claude@2025") == "http://host.test/v1/claude@2025"
    assert redact_url("no address at all") == "no address at all"


def test_a_request_shows_no_key() -> None:
    """A debugger, a log line or an assertion that shows a request would show the key in its URL."""
    request = Request("POST", "https://me:hidden@host.test/v1?key=hidden", {"authorization": "hidden"}, b"{}")
    assert "hidden" not in repr(request)
    assert "host.test/v1" in repr(request)


def test_the_secrets_of_an_address_are_known() -> None:
    """A server that quotes the key of a URL would put it into errors."""
    assert set(secrets_in("https://me:hunter2@host/v1?key=a%2Fbcd&sig=x&api-version=2024")) == {"hunter2", "a/bcd"}
    assert secrets_in("https://host/v1") == ()


def test_secrets_are_told_by_their_names() -> None:
    """A credential under another name than the usual would not be recognised in what a server quotes."""
    named = [("Authorization", "Bearer abcdef"), ("X-Sig", "12345"), ("design", "public"), ("x-token", "no")]
    assert secrets_among(named) == ("Bearer abcdef", "abcdef", "12345")
