"""Prompt templates: Jinja2, in a sandbox, where an undefined column is an error and never an empty string.

A template may come from someone else, and the values always do. Values are only ever put in, never run; the template
itself cannot reach Python's insides, files or other templates, nor grow its text without end.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flatout.errors import ConfigError

if TYPE_CHECKING:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from .rows import Row

LONGEST_PROMPT = 64 * 1024 * 1024
"""Characters that one template may make."""

_MOST_BITS = 100_000
"""Bits of the largest power that a template may compute."""

_GUARDS = {"defined", "undefined", "default", "d"}
"""The tests and filters that make a column optional."""


def template_text(given: str, option: str = "--prompt") -> str:
    """A template as given on the command line: its text, or ``@file`` for a file that holds it (UTF-8).

    One line end at the end of a file belongs to the file, not to the template. ``@@`` begins a text with an ``@``.

    Raises:
        ConfigError: the file cannot be read.
    """
    if not given.startswith("@"):
        return given
    if given.startswith("@@"):
        return given[1:]
    try:
        text = Path(given[1:]).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{option}: {given[1:]} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{option}: {given[1:]} cannot be read: {why}") from None
    return text.removesuffix("\n")


class Template:
    """A compiled template.

    ``{{ text }}`` is the column ``text``; ``{{ row["Mail text"] }}`` one whose name is no identifier. What is not a
    string is put in as ``str()`` has it; ``| tojson`` writes JSON.

    Args:
        text: Jinja2.
        option: what the user calls it; messages begin with it.

    Raises:
        ConfigError: it does not compile; the message names the line.
    """

    __slots__ = ("_columns", "_compiled", "_globals", "_optional", "_uses_row", "option", "plain", "text")

    def __init__(self, text: str, option: str = "--prompt") -> None:
        from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes

        self.text = text
        self.option = option
        environment = _environment()
        try:
            tree = environment.parse(text)
            used = meta.find_undeclared_variables(tree) - environment.globals.keys()
            others = list(meta.find_referenced_templates(tree))
            self._compiled: jinja2.Template = environment.from_string(text)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{option}, line {error.lineno}: {error.message}") from None
        except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
            raise ConfigError(f"{option}: {error}") from None
        if others:
            raise ConfigError(f"{option}: a template cannot include or import another one")
        self._globals = dict(environment.globals)
        self._uses_row = "row" in used
        self._optional = {
            node.node.name
            for node in tree.find_all((nodes.Filter, nodes.Test))
            if node.name in _GUARDS and isinstance(node.node, nodes.Name)
        }
        self._columns = frozenset(used - self._optional - {"row"})
        self.plain = not self._uses_row and all(_is_plain(node) for node in tree.body)
        """Whether it only puts columns in, so that it cannot fail where they exist."""

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def columns(self) -> frozenset[str]:
        """The columns that it needs: those it names, except where it provides for their absence.

        (By ``is defined`` or ``default``.)
        """
        return self._columns

    def render(self, row: Row) -> str:
        """The template's text for a row.

        Raises:
            ConfigError: a column is undefined, an operation fails or is not allowed; the message names the row's line.
        """
        template = self._compiled
        values = {**self._globals, **row.columns}
        if self._uses_row:
            values.setdefault("row", row.columns)
        try:
            # What Template.render does, but for the merging of ChainMaps, which takes 4 of its 5 µs.
            context = template.new_context(values, shared=True)
            return template.environment.concat(template.root_render_func(context))
        except Exception as error:  # a template computes on data of any kind, so anything may be raised
            if missing := self.missing(row.columns):
                raise ConfigError(
                    f"{row.at}: {missing_column(self.option, missing, row.columns, 'this row')}"
                ) from None
            raise ConfigError(f"{row.at}: {self.option}: {str(error) or type(error).__name__}") from None

    def missing(self, columns: Iterable[str]) -> str | None:
        """The first needed column (by name) that is not among these; None when all are."""
        absent = self._columns.difference(columns)
        return min(absent) if absent else None


compiled = lru_cache(maxsize=64)(Template)
"""A template by text and option, compiled once: what lets a Recipe be plain data."""


def missing_column(option: str, name: str, columns: Iterable[str], where: str = "the input") -> str:
    """Says that a template uses a column that does not exist, and which ones do."""
    return f"{option} uses {{{{ {name} }}}}, but {where} has no column {name}; it has: {listed(columns)}"


def listed(columns: Iterable[str], most: int = 20) -> str:
    """Columns' names for a message: not more than ``most``, none longer than 60 characters."""
    names = [name if len(name) <= 60 else f"{name[:59]}…" for name in columns]
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _is_plain(node: Any) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData | nodes.Name) for part in node.nodes
    )


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """The sandbox, made at the first template: importing jinja2 takes longer than `flatout --help` should."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        # Jinja's sandbox caps range(); repetition and powers are the other one-liners that fill the memory.
        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_size(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def concat(self, parts: Iterable[str]) -> str:
            kept, size = [], 0
            for part in parts:
                size += len(part)
                if size > LONGEST_PROMPT:
                    raise OverflowError(f"it makes more than {LONGEST_PROMPT:,} characters")
                kept.append(part)
            return "".join(kept)

    sandbox = Sandbox(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    sandbox.filters["tojson"] = _to_json
    # A prompt that differs each time it is rendered could not be resumed.
    del sandbox.filters["random"], sandbox.globals["lipsum"]
    return sandbox


def _check_size(operator: str, left: Any, right: Any) -> None:
    if operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(value, str | list | tuple) and isinstance(times, int) and len(value) * times > LONGEST_PROMPT:
                raise OverflowError(f"it repeats something to more than {LONGEST_PROMPT:,} items")
    elif isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _MOST_BITS:
        raise OverflowError("it computes too large a power")


def _to_json(value: Any) -> str:
    # Jinja's own filter escapes for HTML, which a model would have to read as \u003c.
    return msgspec.json.encode(value).decode()
