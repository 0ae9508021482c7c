"""What flatout uses of its dependencies beyond their documentation: still there, and bounded.

Where a test here fails after an upgrade, the dependency has changed what we rely on: adapt, then move its bound.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INTERNALS_USED = (
    "aiohttp",
    "daft",
    "genai-prices",
    "jsonschema-rs",
    "mcp",
    "opentelemetry-sdk",
    "ray",
    "textual",
    "typer",
    "xllamacpp",
)


ENGINES = {"ray", "daft"}
"""Extras that not even the extra ``all`` has: whoever uses such an engine has it, in the version of their cluster."""


def requirements() -> dict[str, str]:
    """Every requirement of the package and its extras: what is asked of each name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {name: rest for line in lines for name, rest in re.findall(r"^([\w.-]+)(.*)$", line)}


def test_the_extra_all_has_every_other_one() -> None:
    """Whoever installs everything would be told to install something."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    [everything] = extras.pop("all")
    assert set(re.fullmatch(r"flatout\[(.*)\]", everything)[1].split(",")) == set(extras) - ENGINES


@pytest.mark.parametrize("name", INTERNALS_USED)
def test_a_dependency_whose_internals_are_used_has_an_upper_bound(name: str) -> None:
    """An upgrade of somebody else's package would break flatout on the day that it is released."""
    assert re.search(r"<|==", requirements()[name])


def test_aiohttps_pool_is_as_ours_extends_it() -> None:
    """Connections would be opened without a bound, or idle ones be kept where others wait for a descriptor."""
    from aiohttp import BaseConnector, ClientRequest, TCPConnector

    assert inspect.iscoroutinefunction(TCPConnector._create_connection)
    assert list(inspect.signature(TCPConnector._create_connection).parameters)[:2] == ["self", "req"]
    assert list(inspect.signature(BaseConnector.connect).parameters)[:2] == ["self", "req"]
    source = inspect.getsource(BaseConnector)
    assert "self._create_connection(" in source
    assert "self._conns" in source
    assert "self._acquired" in source
    assert "url" in ClientRequest.__annotations__ or hasattr(ClientRequest, "url")


def test_asyncios_tls_is_as_ours_extends_it() -> None:
    """Each TLS connection would hold 256 KB again."""
    from flatout.transports import tls

    assert tls._USES_THE_BUFFER


def test_the_price_table_is_looked_up_as_we_do() -> None:
    """Every cost would be unknown, or an error."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    provider = snapshot.find_provider(None, None, "https://api.openai.com/v1")
    _, info = snapshot.find_provider_model("gpt-4o", provider, None, None)
    assert info.get_prices(datetime.now(UTC)).input_mtok
    assert info.get_prices(datetime.now(UTC), {"service_tier": "flex"}).input_mtok
    assert any(info is one for one in provider.models)
    assert hasattr(info, "price_variants")
    for here in ("localhost", "127.0.0.1", "[::1]"):  # else their costs would be left out
        with pytest.raises(LookupError):
            snapshot.find_provider(None, None, f"http://{here}:8000/v1")


def test_schemas_are_compiled_as_we_ask() -> None:
    """An error would quote the answer that it is about, or a schema be fetched from the network."""
    import jsonschema_rs

    jsonschema_rs.validator_for({"type": "object"}, offline=True, mask="x", validate_formats=True)
    assert issubclass(jsonschema_rs.ValidationError, Exception)
    assert issubclass(jsonschema_rs.ReferencingError, Exception)


def test_the_loggers_of_failed_exports_are_called_as_we_silence_them() -> None:
    """A collector that is down would fill the terminal with tracebacks, over and over."""
    pytest.importorskip("opentelemetry.sdk")
    from flatout.telemetry._export import _EXPORT_LOGS

    for name in _EXPORT_LOGS:
        module = import_module(name)
        source = "".join(path.read_text("utf-8") for path in _sources(module))
        assert "getLogger(__name__)" in source, name


def _sources(module: Any) -> list[Path]:
    path = Path(module.__file__)
    return list(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]


def test_textual_ends_after_an_error_as_we_make_it() -> None:
    """A defect would print local variables, and with them prompts and answers."""
    from textual.app import App

    source = inspect.getsource(App._handle_exception)
    assert "self._exception = error" in source
    assert "self._fatal_error()" in source
    assert callable(App._close_messages_no_wait)


def test_textual_reads_keys_as_we_end_it() -> None:
    """What is typed after the end of a view would be lost again, or its driver's thread never end."""
    from textual._xterm_parser import XTermParser
    from textual.drivers.linux_driver import LinuxDriver

    source = inspect.getsource(LinuxDriver)
    assert "parser = XTermParser(self._debug)" in source
    assert "while not self.exit_event.is_set():\n                process_selector_events(" in source
    assert "self.run_input_thread()" in source
    assert [*XTermParser().feed("a")]
    assert not [*XTermParser().tick()]
    assert "self._key_thread.join()" in source
    assert callable(LinuxDriver._disable_mouse_support)


def test_typers_errors_are_told_as_we_read_them() -> None:
    """A misspelt option would be told as a defect of flatout."""
    from flatout.cli.app import command

    with pytest.raises(Exception, match="frobnicate") as wrong:
        command().main(["frobnicate"], standalone_mode=False)
    assert wrong.value.format_message()
    assert wrong.value.ctx.command_path
    with pytest.raises(Exception) as bare:  # noqa: PT011  # its class is what is tested
        command().make_context("flatout", [])
    assert type(bare.value).__name__ == "NoArgsIsHelpError"


def test_servers_of_tools_are_started_without_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MCP server would get every key of the user."""
    pytest.importorskip("mcp")
    from mcp.client.stdio import get_default_environment

    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    given = get_default_environment()
    assert "PATH" in given
    assert "secret" not in given.values()
