"""Somebody else's text takes time in proportion to its length, whatever stands in it.

The event loop stands still meanwhile, and with it every other call and every deadline. Where four times the text takes
sixteen times as long, one answer of a megabyte stops a run.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flatout
from flatout.policies.failures.retry_after import retry_after
from flatout.policies.pacing.advertised import advertised
from flatout.providers.failures import naming as failures
from flatout.providers.failures.named import named_limits, wait_named
from flatout.providers.failures.naming import error_of
from flatout.providers.failures.problem import SAID, read
from flatout.providers.failures.redact import redact_body, redact_headers
from flatout.providers.wire.sse import EventParser
from flatout.text.jsonish import pieces
from flatout.text.redact import excerpt, redact, redact_url, secrets_in
from flatout.text.visible import visible
from flatout.values import Endpoint

SMALL, LARGE = 2_000, 16_000
"""Characters. What grows with the square takes sixty-four times as long for the second."""

TOO_MUCH = 22.0
"""Times as long for eight times the text: between the eight that is right and the sixty-four that is wrong."""

OFTEN = 5
"""Measurements. Other programs only ever make one longer: the shortest is the nearest to the truth."""

NOISE = 0.01
"""Seconds below which a measurement tells nothing, and nobody is held up."""

UNITS = (
    *("a", "1", " ", "-", ".", "_", "=", '"', "(", "[", "{", "<", "\\", "\n", "+", "@", "%", "…", "A1", "a.", "a-"),
    *("<title", "<h1 ", "eyJabcdefgh-", "sk-", "key=", "key ", "api key ", "Bearer ", "://", "?key", "a@", "a:", "//a"),
    *("the model ", "model ", "input token count ", "requests per minute ", "limit of 1 ", "limit (", "try again in 1"),
    *("Requests", "InputTokens", "P1D", "T1", "Expected `", "claude-1", "claude-a", "https://a", "GB00", "00 ", "1 "),
    *('"a":', "{}", "[]", "```", "<think>", "</think>", "null", "true,", "data:", "a,b\r", "-- a: ", "Args:", "*a ("),
    *("(555) ", "-----BEGIN ", "1e", "1s", "1.5", "\\u"),
)
"""What texts are made of, over and over."""

SECRETS = ("sk-" + "0123456789" * 5, "aaaaaaaaaaaaaaaa", "=" * 20)


def texts(size: int) -> Iterator[tuple[str, str]]:
    for unit in UNITS:
        text = (unit * size)[:size]
        yield repr(unit), text
        yield f"{unit!r} and an end", text + "\0"


def seconds(work: Callable[[str], object], text: str, times: int = OFTEN) -> float:
    """Seconds of CPU that the work takes at least."""

    def once() -> float:
        began = time.process_time()
        work(text)
        return time.process_time() - began

    return min(once() for _ in range(times))


def grows_too_much(work: Callable[[str], object], small: str, large: str) -> bool:
    if (took := seconds(work, large, 1)) < NOISE:
        return False
    allowed = TOO_MUCH * seconds(work, small)
    return took >= allowed and seconds(work, large) >= allowed


def superlinear(work: Callable[[str], object]) -> list[str]:
    """The texts for which the work takes more than in proportion."""
    pairs = zip(texts(SMALL), texts(LARGE), strict=True)
    return [name for (name, small), (_, large) in pairs if grows_too_much(work, small, large)]


def patterns() -> Iterator[tuple[str, Callable[[str], object]]]:
    """Every pattern that a module of flatout keeps: its name, and its use."""
    for found in pkgutil.walk_packages(flatout.__path__, "flatout."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        source = Path(module.__file__).read_text()
        for name, value in vars(module).items():
            for one in value if isinstance(value, tuple) else (value,):
                pattern = one.pattern if type(one) is failures._Phrase else one
                if isinstance(pattern, re.Pattern):
                    methods = set(re.findall(rf"\b{name}\.(\w+)\(", source))
                    yield f"{found.name}.{name} {pattern.pattern[:20]!r}", use_of(pattern, methods)


def use_of(pattern: re.Pattern, methods: set[str] = frozenset()) -> Callable[[str], object]:
    """A pattern at work on a text: at its beginning alone, where it is used so, else from each place on."""

    def work(text: str) -> None:
        subject = text.encode() if isinstance(pattern.pattern, bytes) else text
        pattern.fullmatch(subject)
        if not methods or methods - {"match", "fullmatch"}:
            for _ in pattern.finditer(subject):
                pass

    return work


PATTERNS = dict(patterns())


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_takes_more_than_linear_time(name):
    """A text of a megabyte would stop the event loop for minutes."""
    assert superlinear(PATTERNS[name]) == []


def test_there_are_patterns():
    """The test above would look at nothing."""
    assert len(PATTERNS) > 30


def test_what_grows_with_the_square_is_found():
    """The tests here would find nothing."""
    assert superlinear(use_of(re.compile(r"<title[^>]*>"))) == ["'<title'", "'<title' and an end"]


def fed(text: str) -> None:
    parser = EventParser()
    data = text.encode()
    for start in range(0, len(data), 64):
        parser.feed(data[start : start + 64])
    parser.close()


def nested(text: str) -> bytes:
    error = {"message": text, "code": text, "details": [{"reason": text}], "metadata": {"raw": text}}
    return json.dumps({"error": error, "detail": [{"loc": [text], "msg": [text]}]}).encode()


HEADERS = (
    "retry-after",
    "x-ratelimit-limit-requests",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-tokens-reset",
    "date",
)
HERE = Endpoint(name="x", base_url="https://x", headers={"x-key": SECRETS[0]}, query={"key": SECRETS[2]})

READERS = {
    "redact": lambda text: redact(text, SECRETS),
    "redact_url": lambda text: redact_url(f"https://{text}"),
    "secrets_in": secrets_in,
    "excerpt": lambda text: excerpt(text, SMALL),
    "redact_body": lambda text: redact_body(text.encode(), SECRETS),
    "redact_headers": lambda text: redact_headers({"x": text}, SECRETS),
    "named_limits": lambda text: named_limits(text, [(text, text)]),
    "wait_named": wait_named,
    "retry_after": lambda text: retry_after(dict.fromkeys(HEADERS, text)),
    "advertised": lambda text: advertised(dict.fromkeys(HEADERS, text), 0.0),
    "problem, text": lambda text: read(text.encode()),
    "problem, a page": lambda text: read(f"<{text}".encode()),
    "problem, JSON": lambda text: read(nested(text)),
    "error, text": lambda text: error_of(400, {"retry-after": text}, text.encode(), HERE),
    "error, JSON": lambda text: error_of(400, {"x-request-id": text}, nested(text), HERE),
    "events": fed,
    "pieces of JSON": lambda text: list(pieces(text)),
    "visible": visible,
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_takes_more_than_linear_time(name):
    """A provider's answer would stop the event loop, past every deadline."""
    assert superlinear(READERS[name]) == []


@pytest.mark.parametrize("status", [400, 404, 429, 500])
@pytest.mark.parametrize("shape", [str.encode, nested, lambda text: b"<html>" + text.encode()])
def test_a_message_is_cut_before_anything_looks_at_it(status, shape, monkeypatch):
    """Every pattern would run over a message of megabytes: linear, and still seconds."""
    looked_at: list[int] = []

    class Watched:
        def __init__(self, pattern: re.Pattern) -> None:
            self._pattern = pattern

        def __getattr__(self, name: str):
            def use(*args):
                looked_at.extend(len(arg) for arg in args if isinstance(arg, str))
                return getattr(self._pattern, name)(*args)

            return use

    for module in ("naming", "named", "problem"):
        found = importlib.import_module(f"flatout.providers.failures.{module}")
        for name, value in list(vars(found).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(found, name, Watched(value))
    redacting = importlib.import_module("flatout.text.redact")
    monkeypatch.setattr(redacting, "_LOOKS_LIKE_A_KEY", Watched(redacting._LOOKS_LIKE_A_KEY))
    error_of(status, {}, shape("no " * 1_000_000), HERE)
    assert looked_at
    assert max(looked_at) <= 10 * SAID
