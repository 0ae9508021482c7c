"""The Python of the documentation, run as it stands there, against a simulated provider.

The blocks of a page are run in their order and share their names, as a reader types them. Blocks that are marked ``py``
are only compiled: they need another library, or a server. Of a new page's examples, say below which files they read and
what they print. The pages' commands are run by ``cli/test_cli_examples.py``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
import textwrap
import tomllib
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flatout import Limits
from flatout.config import file
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")), "../README.md"]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
FILES = {
    "cat.png": PNG,
    "rules.txt": b"Mails about parcels go to the third team. " * 200,
    "report.pdf": b"%PDF-1.7",
    "photos/fox.jpg": JPEG,
    "photos/hen.jpg": JPEG + b"2",
}
"""What the examples read."""

SHOWN = {
    "results.md": ("digest:", "rpm is a limit: write limits=Limits(rpm=600)", "tokens=52, cost=0.000083)"),
    "structured.md": ("name='", "['", "text='", " False\n"),
    "tools.md": ("weather 12 °", "digest:"),
    "embeddings.md": ("The cat sat on the mat. 256", "[256, 256, 256]"),
    "../README.md": ("digest:",),
    "compare.md": ("openai/gpt-5-mini digest:", "groq/llama-3.3-70b-versatile digest:", "Lunch at 12? [('"),
    "cache.md": ("True 0.0\nTrue 0.0\nFalse ",),
    "durability.md": ("digest:",),
    "moving.md": ("['digest:", "[Person("),
    "quickstart.md": ("digest:", "Lunch at 12? ", "['digest:"),
    "testing.md": ("['spam', 'ham']",),
    "pacing.md": (),
    "routes.md": ("digest:",),
    "progress.md": ("2 of 2 finished, 0 failed, $ 0.0002",),
    "tables.md": ("['text', 'day', 'answer', 'error']", "[256]", "['text', 'day', 'label', 'error']\n2\n1\n1\n"),
    "plan.md": ("350 calls left, for $", "openai/gpt-5-mini: $"),
}
"""What the examples of a page print, where it is not one answer's text for each call."""

SEND_NOTHING = {"batch.md", "pacing.md", "testing.md"}
"""Pages whose examples make no calls, or make them to a provider of their own."""


async def extract(document, client):
    return (await client.call(document)).text


GIVEN: dict[str, dict[str, object]] = {
    "../README.md": {"prompts": ["a"], "calls": ["b", "c"], "documents": ["d"], "extract": extract},
    "pacing.md": {"Limits": Limits},
}
"""The names that a page's examples leave to the reader."""

KEYS = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "OPENROUTER_API_KEY",
)


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


def blocks(page: str, language: str = "python") -> list[tuple[int, str]]:
    """The blocks of a page that are in a language, each with the line that it begins on."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(rf"^( *)```{language}(?: [^\n]*)?\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(2)), textwrap.dedent(match[2])) for match in found]


def compiled(page: str, line: int, source: str):
    """The code of a block, which may await at its top level, as in a notebook."""
    return compile("\n" * line + source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def run(page: str, line: int, source: str, names: dict[str, object]) -> None:
    """Run a block; one that awaits at its top level in an event loop."""
    code = compiled(page, line, source)
    if code.co_flags & inspect.CO_COROUTINE:

        async def in_loop() -> None:
            await eval(code, names)

        asyncio.run(in_loop())
    else:
        exec(code, names)


@pytest.fixture
def answered(tmp_path, monkeypatch):
    """The statuses of all answers, where every client that is given no transport speaks to a simulated provider."""
    statuses: list[int] = []
    monkeypatch.setattr("flatout.transports.http.HttpTransport", lambda *_, **__: Recorder(statuses))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for key in KEYS:
        monkeypatch.setenv(key, "sk-0123456789")
    for name, data in FILES.items():
        path = tmp_path / "here" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    monkeypatch.chdir(tmp_path / "here")
    level = logging.getLogger("flatout").level
    yield statuses
    logging.getLogger("flatout").setLevel(level)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_examples_run(page, answered, capsys):
    """Somebody who copies an example would get an error for a first answer."""
    names: dict[str, object] = {"__name__": "__main__", **GIVEN.get(page, {})}
    for line, source in blocks(page):
        run(page, line, source, names)
    assert bool(answered) == (page not in SEND_NOTHING)
    assert set(answered) <= {200}
    out = capsys.readouterr().out
    if page not in SHOWN:
        assert out.count("digest:") == len(answered)  # each answer was shown, and no error
    assert [text for text in SHOWN.get(page, ()) if text not in out] == []


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "py") or blocks(page, "toml")])
def test_what_is_not_run_is_read(page):
    """Somebody who copies a fragment or a flatout.toml would get a syntax error, or an unknown setting."""
    for line, source in blocks(page, "py"):
        compiled(page, line, source)
    for _, source in blocks(page, "toml"):
        file.parse(source.encode(), page)


def test_every_setting_stands_in_the_whole_file():
    """A setting of flatout.toml could be found in the code alone."""
    whole = tomllib.loads(blocks("reference/configuration.md", "toml")[0][1])
    assert set(whole) == set(file.Config.__struct_fields__)
    assert set(whole["endpoints"]["mine"]) == set(file.EndpointConfig.__struct_fields__)


def test_every_page_is_in_the_menu():
    """A page would be found by nobody who does not know its address."""
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").split()
    assert [page for page in PAGES if page not in {*menu, "../README.md"}] == []


def test_every_benchmark_that_is_named_is_there():
    """A reader could not print the figures that a page shows."""
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"python -m benchmarks\.(\w+)", text)) | set(re.findall(r"benchmarks/(\w+)\.py", text))
    assert named
    assert [name for name in named if not (DOCS.parent / "benchmarks" / f"{name}.py").is_file()] == []


def test_a_broken_example_would_show(answered):
    """This test would let every page pass."""
    with pytest.raises(NameError) as caught:
        run("page.md", 40, "x = 1\nawait nothing\n", {})
    assert caught.traceback[-1].lineno == 41  # counted from 0
