"""The examples in the documentation, run as they stand there, against a simulated provider.

The blocks of a page are run in their order and share their names, as a reader types them. To have another page
tested, add it to `PAGES`, with the files that its examples read.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport

DOCS = Path(__file__).parents[2] / "docs"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
PAGES = {
    "images.md": {
        "cat.png": PNG,
        "report.pdf": b"%PDF-1.7",
        "photos/fox.jpg": JPEG,
        "photos/hen.jpg": JPEG + b"2",
    },
    "telemetry.md": {},
    "agents.md": {},
    "results.md": {},
    "streaming.md": {},
    "structured.md": {},
    "tools.md": {},
    "embeddings.md": {},
    "compare.md": {},
    "providers.md": {},
    "../README.md": {},
}
SHOWN = {
    "results.md": ("digest:", "rpm is a limit: write limits=Limits(rpm=600)", "tokens=52, cost=0.000083)"),
    "structured.md": ("name='", "['", "text='", " False\n"),
    "tools.md": ("weather 12 °", "digest:"),
    "embeddings.md": ("The cat sat on the mat. 256", "[256, 256, 256]"),
    "../README.md": ("digest:",),
    "compare.md": ("openai/gpt-5-mini digest:", "groq/llama-3.3-70b-versatile digest:", "Lunch at 12? [('"),
}
"""What the examples of a page print, where it is not one answer's text for each call."""


async def extract(document, client):
    return (await client.call(document)).text


GIVEN: dict[str, dict[str, object]] = {
    "../README.md": {"prompts": ["a"], "calls": ["b", "c"], "documents": ["d"], "extract": extract}
}
"""The names that a page's examples leave to the reader."""

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY")


class Recorder(SimulatedTransport):
    """Notes how each request was answered."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(ProviderModel(ProviderSettings(latency=0.0)))
        self._statuses = statuses

    async def send(self, request):
        response = await super().send(request)
        self._statuses.append(response.status)
        return response

    @asynccontextmanager
    async def stream(self, request):
        async with super().stream(request) as answer:
            self._statuses.append(answer.status)
            yield answer


def blocks(page: str) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the line that it begins on."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


def run(page: str, line: int, source: str, names: dict[str, object]) -> None:
    """Run a block; one that awaits at its top level, as in a notebook, in an event loop."""
    code = compile("\n" * line + source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:

        async def main() -> None:
            await eval(code, names)

        asyncio.run(main())
    else:
        exec(code, names)


@pytest.fixture
def answered(tmp_path, monkeypatch):
    """The statuses of all answers, where every client that is given no transport speaks to a simulated provider."""
    statuses: list[int] = []
    monkeypatch.setattr("flatout.transports.http.HttpTransport", lambda *_, **__: Recorder(statuses))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for key in KEYS:
        monkeypatch.setenv(key, "sk-0123456789")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return statuses


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, answered, capsys):
    """Somebody who copies an example would get an error for a first answer."""
    for name, data in PAGES[page].items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    names: dict[str, object] = {"__name__": "__main__", **GIVEN.get(page, {})}
    for line, source in blocks(page):
        run(page, line, source, names)
    assert answered
    assert set(answered) == {200}
    out = capsys.readouterr().out
    if page not in SHOWN:
        assert out.count("digest:") == len(answered)  # each answer was shown, and no error
    assert [text for text in SHOWN.get(page, ()) if text not in out] == []


def test_a_broken_example_would_show(answered):
    """This test would let every page pass."""
    with pytest.raises(NameError) as caught:
        run("page.md", 40, "x = 1\nawait nothing\n", {})
    assert caught.traceback[-1].lineno == 41  # counted from 0
    assert all(source.strip() for page in PAGES for _, source in blocks(page))
    assert all(blocks(page) for page in PAGES)
