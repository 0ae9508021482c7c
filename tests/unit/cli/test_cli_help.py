from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatout.cli import main
from flatout.cli.app import command

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def commands() -> Iterator[tuple[str, Any]]:
    def below(path: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, found in group.commands.items():
            yield f"{path} {name}".strip(), found
            if hasattr(found, "commands"):
                yield from below(f"{path} {name}".strip(), found)

    yield "", command()
    yield from below("", command())


ALL = dict(commands())
TOP = command().commands


def help_of(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*path.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_is_explained(path: str) -> None:
    """A user would meet a command or an option without a word of help."""
    assert ALL[path].help, f"flatout {path} has no help"
    for param in ALL[path].params:
        assert param.help, f"flatout {path}: {param.opts} has no help"


@pytest.mark.parametrize("path", [path for path in ALL if not hasattr(ALL[path], "commands") and path != "local pull"])
def test_help_teaches_by_example(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A user would have to guess how a command is used."""
    assert f"$ flatout {path}" in help_of(path, capsys)


@pytest.mark.parametrize("path", ALL)
def test_help_fits_a_terminal(path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Help would be cut off, or examples broken in the middle, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(path, capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    written = {line.strip() for line in text.splitlines()}
    for line in re.findall(r"^\$ .*$", ALL[path].epilog or "", re.MULTILINE):
        assert line in written, f"broken: {line}"


@pytest.mark.parametrize("path", ALL)
def test_help_lists_every_option(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option would exist that nobody can find."""
    text = help_of(path, capsys)
    for param in ALL[path].params:
        for name in param.opts:
            assert name in text or param.param_type_name == "argument"


def test_the_options_are_those_that_documents_name() -> None:
    """A user would copy a command from the documents that the program does not understand."""
    for document in DOCUMENTS:
        text = document.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(
            r"(?:^|[\s`$|])flatout ((?:run|status|export|trace|report|trust|simulate|local)\b[^\n`|]*)", text
        ):
            words = line.split()
            path = " ".join(words[:2]) if words[0] == "local" else words[0]
            if path not in ALL:
                continue
            known = {name for param in ALL[path].params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
            for name in re.findall(r"(?<!\S)--[a-z][\w-]*", line):
                assert name in known, f"{document.name}: flatout {path} has no {name}"


def test_there_is_no_option_for_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Keys would end up in shell histories and process lists."""
    text = help_of("run", capsys)
    assert "--api-key" not in text
    assert "OPENAI_API_KEY" in text
    assert "FLATOUT_API_KEY" in text


def test_help_loads_nothing_heavy() -> None:
    """`flatout --help` would take a second instead of an eye's blink."""
    heavy = ["asyncio", "httptools", "aiohttp", "pydantic", "jinja2", "msgspec", "sqlite3", "genai_prices", "uvloop"]
    program = (
        "import sys; from flatout.cli import main; assert main(['--help']) == 0;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report would name the wrong version."""
    from flatout import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flatout {__version__}\n"
