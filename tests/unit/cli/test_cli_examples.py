"""The examples of the help texts and of the documentation, run as they stand there, against a simulated provider.

Each example of a help text is run by itself. Those of a page are run one after another in one folder, as a reader does.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

import flatout.local
from flatout.cli import execute, main
from flatout.cli.app import command
from flatout.cli.exit_codes import UNDER_WAY
from flatout.layer import Request, Response
from flatout.policies.pacing.leases import Keeper
from flatout.policies.pacing.reports import Seen, Summed, Sums
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from flatout.values import Endpoint
from tests.support.batch_wire import BatchWire

ROOT = Path(__file__).parents[3]
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY")
MAILS = "id,subject,text\n" + "".join(f"{n},,lunch at {n}?\n" for n in range(1, 11))
ROWS = "".join(f'{{"id": "order-{n}", "text": "order {n}", "prompt": "what is {n}?"}}\n' for n in range(1130, 1160))
TARGETS = (
    "openai",
    "anthropic",
    "groq",
    "openrouter",
    "gemini",
    "local",
    *(f'"127.0.0.1:{port}"' for port in (8000, 8080, 8100)),
)
KNOWN = "".join(f"[limits.{name}]\nrpm = 600_000\n" for name in TARGETS)
"""Limits that no example reaches: without any, each would begin slowly, to find them."""

ROUTES = '[routes.fast]\ntargets = ["openai/gpt-5-mini", "openrouter/openai/gpt-5-mini"]\n'

FILES = {
    **dict.fromkeys(("prompts.jsonl", "rows.jsonl", "p.jsonl", "sample.jsonl"), ROWS),
    **dict.fromkeys(("mails.csv", "rows.csv"), MAILS),
    "prompt.txt": "Sum up: {{ text }}",
    "prompts.txt": "one\ntwo\n",
    "rules.txt": "Mails about parcels go to the third team. " * 200,
    "people.csv": "text\nAda Lovelace\n",
    "person.json": '{"type": "string"}',
    "batch.jsonl": '{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hello"}]}}\n',
    "flatout.toml": KNOWN + ROUTES,
    "../flatout.toml": KNOWN + ROUTES,
}


class Example(NamedTuple):
    """One command line: what it is part of, the file that it is given as standard input, and its words."""

    where: str
    stdin: str | None
    words: list[str]


def examples() -> Iterator[Example]:
    """Those of the help texts."""
    for where, text in texts("flatout", command()):
        yield from lines(where, text)


def lines(where: str, text: str) -> Iterator[Example]:
    """All lines that begin with ``$``, those that go on in the next one as one."""
    for line in re.findall(r"^ *\$ (.*(?:(?<=\\)\n.*)*)", text, re.MULTILINE):
        shell = line.replace("\\\n", " ")
        piped = re.fullmatch(r"cat (\S+) \| (.*) > \S+", shell)
        words = shlex.split(piped[2] if piped else shell, comments=True)
        if words[0] == "flatout":
            yield Example(where, piped[1] if piped else None, words[1:])


def texts(path: str, found: Any) -> Iterator[tuple[str, str]]:
    yield f"{path} --help", found.epilog or ""
    for name, inner in getattr(found, "commands", {}).items():
        yield from texts(f"{path} {name}", inner)


def pages() -> Iterator[tuple[str, list[Example]]]:
    """The pages of the documentation that show commands."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if found := list(lines(page.name, page.read_text("utf-8"))):
            yield page.name, found


PAGES = dict(pages())
BATCHED = ["run", "prompts.jsonl", "-o", "answers.jsonl", "-m", "openai/gpt-5-mini", "--lane", "batch", "--detach"]


BATCHES = BatchWire(seconds=0.0)
"""The provider's batches, which go on from command to command."""


TEAM = Seen(0.0, Keeper(), Summed(0.0, Sums(), "openai/gpt-5-mini"), {})
"""What a server says of workers that share limits there."""


class Provider(SimulatedTransport):
    """Answers every request at once, as the API at its address does."""

    def __init__(self) -> None:
        super().__init__(ProviderModel(ProviderSettings(latency=0.0)))

    def stream(self, request: Request) -> Any:
        return BATCHES.stream(request) if "/files" in request.url else super().stream(request)

    async def send(self, request: Request) -> Response:
        if "/batches" in request.url or "/files" in request.url:
            return await BATCHES.send(request)
        if not request.url.endswith("/messages"):
            named = {"model": "the embedded one", **json.loads(request.body)}  # its server knows one alone
            return await super().send(replace(request, body=json.dumps(named).encode()))
        body = {
            "content": [{"type": "text", "text": "spam"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        return Response(200, {}, json.dumps(body).encode())


class FakeLocalServer:
    """The embedded model, which is the simulated provider as well."""

    async def __aenter__(self) -> FakeLocalServer:
        return self

    def stop(self) -> None:
        pass

    def endpoint(self) -> Endpoint:
        return Endpoint(name="local", base_url="http://127.0.0.1:1/v1", key_required=False, self_hosted=True)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read, where every address is the simulated provider's."""

    monkeypatch.setattr("flatout.transports.http.HttpTransport", lambda **_: Provider())
    monkeypatch.setattr(flatout.local, "check", lambda: Path("model.gguf"))
    monkeypatch.setattr(flatout.local, "LocalServer", FakeLocalServer)
    # What stays until Ctrl-C, or fetches something: there it is enough that the command line is understood.
    monkeypatch.setattr(flatout.local, "serve_forever", lambda **_: None)
    monkeypatch.setattr(flatout.local, "pull", lambda _: Path("model.gguf"))
    monkeypatch.setattr("flatout.cli.simulate._serve", lambda *_: {})
    monkeypatch.setattr("flatout.cli.serve._serve", lambda *_: None)
    monkeypatch.setattr("flatout.cli.watch_web._serve", lambda *_, **__: None)
    monkeypatch.setattr("flatout.cli.simulate.statistics", lambda _: "")
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    steered = {"state": "running", "in_flight": 3, "limits": {}, "under_way": True, "rows": 2}
    monkeypatch.setattr("flatout.control.asking.ask", lambda *_: steered)  # a run that is under way
    monkeypatch.setattr("flatout.cluster.redis.RedisLink.look", lambda _: [TEAM])
    monkeypatch.setattr("flatout.telemetry.exporting", lambda *_, **__: nullcontext())  # opens sockets
    monkeypatch.setattr(execute, "tune_collector", lambda: None)
    monkeypatch.setattr(execute, "allow_many_files", lambda: None)
    for key in KEYS:
        monkeypatch.setenv(key, "sk-0123456789")
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name, content in FILES.items():
        Path(name).write_text(content)
    return here


def look(example: Example, world: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run an example; those that look at a run find one."""
    reads = ("status", "watch", "export", "trace", "report")
    if example.words[0] in reads and not (world / "damaged.flatout").exists():
        for output in ("answers.jsonl", "out.csv"):
            if not Path(output).exists():
                assert main(["run", "prompts.jsonl", "-o", output, "-m", "openai/gpt-5-mini", "--quiet"]) == 0
        shutil.copy("answers.jsonl.flatout", "damaged.flatout")
    if "mini.jsonl" in example.words:
        for output in ("mini.jsonl", "large.jsonl"):
            assert main(["run", "prompts.jsonl", "-o", output, "-m", "openai/gpt-5-mini", "--quiet"]) == 0
    if example.words[0] == "cache" and not (world / "answers.cache").exists():
        asked = ["run", "prompts.jsonl", "-o", "answers.jsonl", "-m", "openai/gpt-5-mini", "--quiet", "--fresh"]
        assert [main([*asked, cache]) for cache in ("--cache", "--cache=answers.cache")] == [0, 0]
    if example.words[0] == "batch" and not (world / "answers.jsonl.flatout").exists():
        assert main([*BATCHED, "--quiet"]) == UNDER_WAY
    if example.words[0] == "budget":
        asked = ["run", "prompts.jsonl", "-o", "answers.jsonl", "-m", "openai/gpt-5-mini", "--quiet", "--fresh"]
        assert [main([*asked, "--budget", budget]) for budget in ("20/day:team", "100/month")] == [0, 0]
    if example.words[:3] == ["serve", "key", "rm"]:
        main(["serve", "key", "add", example.words[3]])  # unless the page has made it
    if example.stdin is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((world / example.stdin).read_bytes())))
    code = main(example.words)
    return 0 if code == UNDER_WAY and "--detach" in example.words else code


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: " ".join(example.words)[:60])
def test_an_example_runs(example: Example, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies an example from the help would get an error for a first answer."""
    assert look(example, world, monkeypatch) == 0


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a page would be told that there is no such option, or that the output is another run's."""
    for example in PAGES[page]:
        assert (example.words, look(example, world, monkeypatch)) == (example.words, 0)


def test_the_examples_are_found() -> None:
    """This test would let every example pass."""
    found = list(examples())
    assert len(found) > 25
    assert any(example.stdin for example in found)
    assert any("--budget" in example.words for example in found)
    assert {"README.md", "quickstart.md", "rows.md"} <= PAGES.keys()
