"""What users import, and what importing it costs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import flatout
from flatout import Call, Client, Limits, errors

NAMES = [
    "Answered", "AttemptTimeout", "AuthenticationError", "Budget", "BudgetExceeded", "Call", "CallError",
    "CircuitOpen",
    "Client", "Config", "ConfigError", "ConnectError", "ContentFiltered", "ContextTooLong", "DeadlineExceeded",
    "EmptyAnswer", "Endpoint", "Exited", "Failed", "File", "FlatoutError", "GuardrailTripped", "Image",
    "InvalidRequest", "Limits", "NotSent", "OutputError", "Overloaded", "Plan", "ProtocolError", "ProviderError",
    "QuotaExhausted", "RateLimited", "Refused", "Reply", "Result", "Route", "RunDamaged", "RunLocked", "RunMismatch",
    "SchemaMismatch", "ServerError", "Skipped", "StepUnknown", "StoreError", "ToolCall", "TransportError", "Truncated",
    "Usage", "UsageLimitReached", "run",
]  # fmt: skip

HEAVY = (
    "aiohttp",
    "httptools",
    "pydantic",
    "typer",
    "rich",
    "jinja2",
    "sqlite3",
    "genai_prices",
    "opentelemetry",
    "xllamacpp",
)


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_public_names_are_exactly_these():
    """A name that users import would vanish, or an internal one become a promise, without anybody deciding so."""
    assert sorted(flatout.__all__) == flatout.__all__ == NAMES
    assert set(dir(flatout)) >= set(NAMES)


def test_every_public_name_is_there():
    """``from flatout import X`` would fail for a name that the documentation has."""
    assert all(getattr(flatout, name) is not None for name in flatout.__all__)
    assert not hasattr(flatout, "Manager")


def test_what_the_reference_has_is_found_by_its_name():
    """``import flatout`` would be enough for ``flatout.sdk``, and not for ``flatout.testing``."""
    pages = {page.stem for page in (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")}
    rooms = sorted(pages - {"index", "flatout", "command", "configuration", "changes"})
    named = python(f"import flatout; print(*(getattr(flatout, room).__name__ for room in {rooms!r}))")
    assert named.split() == [f"flatout.{room}" for room in rooms]


def test_every_error_is_public():
    """Users could not catch an error by its name."""
    assert _errors() <= set(flatout.__all__)


@pytest.mark.parametrize(
    "name",
    ["flatout", "agents", "daft", "errors", "events", "progress", "ray", "sdk", "tables", "telemetry", "testing"],
)
def test_the_page_on_what_is_public_names_all_of_it(name: str):
    """Nobody could tell a promise from an accident: a name on the page is gone, or a public one is not on it."""
    module = flatout if name == "flatout" else import_module(f"flatout.{name}")
    page = (Path(__file__).parents[2] / "docs" / "public.md").read_text("utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    listed = set(re.findall(r"`(\w+)`", sections[module.__name__].strip().split("\n\n")[0]))
    found = set(module.__all__ if hasattr(module, "__all__") else _errors())
    assert listed == (found - _errors() if name == "flatout" else found)


@pytest.mark.parametrize("name", ["agents", "daft", "progress", "ray", "sdk", "tables", "telemetry", "testing"])
def test_what_is_private_is_named_so(name: str):
    """Users would import from modules that may change at any time."""
    folder = Path(str(import_module(f"flatout.{name}").__file__)).parent
    open_to_all = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert open_to_all <= {"guards", "fixtures"}


def _errors() -> set[str]:
    return {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}


def test_the_client_takes_what_it_took():
    """Programs that pass an option by name would stop working."""
    options = [
        *("base_url", "api_key", "limits", "timeout", "first_byte", "between_bytes", "deadline", "retries", "reasks"),
        *("budget", "headers", "config"),
        *("transport", "wait_for_quota", "keep_raw", "fail_truncated", "seed", "trust_env", "give_up", "retry_share"),
        "repeats",
        "cache",
        "cache_max_age",
        "reuse",
        "prompt_cache",
        "allow_unknown_price",
        "control",
    ]
    assert parameters(Client) == ["model", *options, "unknown"]
    signature = inspect.signature(Client)
    assert all(signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in options)
    own = [
        "calls",
        "model",
        "models",
        "samples",
        "strict",
        "store",
        "retry_failed",
        "lane",
        "within",
        "progress",
        "output",
        "options",
    ]
    assert parameters(flatout.run) == own


def test_the_reference_lists_what_a_client_can_do():
    """An internal method would become a promise, or a public one be on no page, without anybody deciding so."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "flatout.md").read_text("utf-8")
    [section] = re.findall(r"::: flatout\.Client\n.*?members: \[(.*?)\]", page, re.DOTALL)
    assert {*re.findall(r"\w+", section)} == {name for name in dir(Client) if name[0] != "_"}


def test_the_clients_methods_take_what_they_took():
    """Programs that call them would stop working."""
    assert parameters(Client.call) == ["self", "call", "options"]
    assert parameters(Client.result) == ["self", "call", "index", "journey"]
    stored = ["store", "retry_failed", "lane", "within", "progress", "output", "options"]
    assert parameters(Client.gather) == ["self", "calls", "models", "samples", "strict", *stored]
    assert parameters(Client.as_completed) == ["self", "calls", "models", "samples", *stored]
    planned = ["sample", "sample_budget", "dry_run", "models", "samples", "store", "output", "options"]
    assert parameters(Client.plan) == ["self", "calls", *planned]
    assert parameters(Client.stream) == ["self", "call", "options"]
    assert parameters(Client.embed) == ["self", "texts", "model", "dimensions", "progress", "lane", "store", "unknown"]
    assert parameters(Client.map) == ["self", "function", "items", "store", "retry_failed", "progress", "unknown"]


def test_a_call_has_these_fields():
    """A parameter given by name would silently become an unknown one, and travel in ``extra``."""
    assert sorted(Call.__struct_fields__) == [
        *("deadline", "extra", "id", "logprobs", "max_tokens", "messages", "metadata", "model", "output", "prompt"),
        *("reasks", "reasoning_effort", "sample", "seed", "service_tier", "stop", "system", "temperature", "timeout"),
        *("tool_choice", "tools", "top_p"),
    ]
    assert sorted(Limits.__struct_fields__) == [
        *("adaptive", "burst", "concurrency", "itpm", "otpm", "rpd", "rpm", "shared", "tpm"),
    ]


def test_importing_flatout_imports_nothing_heavy():
    """``import flatout`` and ``flatout --help`` would take a second."""
    loaded = python(f"import sys, flatout; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == "[]"


def test_naming_the_client_imports_no_http_client():
    """``from flatout import Client`` would cost what only its first request needs."""
    loaded = python(f"import sys; from flatout import Client, Call; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == "[]"


def test_the_tree_in_the_documentation_is_the_tree_in_the_code():
    """Somebody who catches ``TransportError``, as drawn, would miss one of the errors below it."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    margin = 0
    for line in inspect.getdoc(errors).splitlines():
        words = line.strip().lstrip("├└│ ").split()
        if words[:1] == ["FlatoutError"]:
            path, margin = ["FlatoutError"], line.index("F")
        elif path and any(mark in line for mark in "├└"):
            indent = next(place for place, character in enumerate(line) if character in "├└")
            depth = (indent - margin) // 2 + 1
            path = [*path[:depth], words[0]]
            drawn[words[0]] = path[-2]
    tree = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FlatoutError) and value is not errors.FlatoutError
    }
    assert drawn == tree
    assert errors.ConfigError.__bases__ == (errors.FlatoutError, ValueError)
    assert errors.FlatoutError.__bases__ == (Exception,)


def test_every_error_says_what_it_means():
    """``help(flatout.Overloaded)`` would be empty."""
    source = ast.parse(Path(errors.__file__).read_text())
    bare = [node.name for node in source.body if isinstance(node, ast.ClassDef) and not ast.get_docstring(node)]
    assert bare == []


def test_every_error_says_what_to_do():
    """The page of errors would leave a reader with a name."""
    own = [each for each in vars(errors).values() if isinstance(each, type) and each.__module__ == errors.__name__]
    families = {base for each in own for base in each.__bases__} - {errors.StoreError}
    silent = [each.__name__ for each in own if each not in families and "What to do:" not in (each.__doc__ or "")]
    assert silent == []
