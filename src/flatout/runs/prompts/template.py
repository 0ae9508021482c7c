"""Prompt templates: Jinja2 in a sandbox, where an undefined column is an error and never an empty string.

A template may come from somebody else, and values always do. Values are only inserted, never run. The template cannot
reach Python's insides, files or other templates, and its time and memory are bounded (see `sandbox`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from flatout.errors import ConfigError

if TYPE_CHECKING:
    import jinja2

    from flatout.runs.input.rows import Row

    from .sandbox import Sandbox

Nulls = Literal["error", "empty", "None"]
"""What a template does with a null: refuse it, insert nothing, or insert the word None."""

LONGEST_PLAIN = 1024 * 1024
"""Characters that a template may make without a meter."""

_GUARDS = {"defined", "undefined", "default", "d"}
"""The tests and filters that make a column optional."""

_OTHER_FORMS = re.compile(r"(?<!\{)\{(\w+)\}(?!\})|\$\{?([A-Za-z_]\w*)\}?|%\(([^)]+)\)s")
"""Placeholders as other tools write them: ``{name}``, ``$name``, ``${name}``, ``%(name)s``."""


_SEVERAL_WORDS = re.compile(r"\{\{\s*([^\W\d]\w*(?:[ \t]+\w+)+)\s*\}\}")
"""A placeholder with a name of several words, or something else that Jinja may understand: ``{{ Mail text }}``."""


class Template:
    """A compiled template.

    ``{{ text }}`` is the column ``text``; use ``{{ row["Mail text"] }}`` for a name that is not an identifier. Values
    other than strings appear as ``str()`` shows them; ``| tojson`` writes JSON. Inserting a null (or NaN, as many tools
    write it) is refused; a template may test for it: ``{% if text %}``, ``text is none``, ``text | default("-")``.

    Args:
        text: Jinja2.
        option: the user's name for it; messages begin with it. One that begins with ``--`` is the command's.
        nulls: what to do with an inserted null instead of refusing it.

    Raises:
        ConfigError: it does not compile; the message names the line.
    """

    __slots__ = (
        "_columns",
        "_compiled",
        "_globals",
        "_null",
        "_of_row",
        "_optional",
        "_pieces",
        "_uses_row",
        "constant",
        "option",
        "plain",
        "reads",
        "text",
        "wordy",
    )

    def __init__(self, text: str, option: str = "--prompt", nulls: Nulls = "error") -> None:
        from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes

        self.text = text
        self.option = option
        environment = _environment()
        try:
            tree = environment.parse(text)
            named = meta.find_undeclared_variables(tree)
            used = named - environment.globals.keys()
            others = list(meta.find_referenced_templates(tree))
            self._compiled: jinja2.Template = environment.compiled(environment.parse(text))
        except TemplateSyntaxError as error:
            raise ConfigError(f"{option}, line {error.lineno}: {_several_words(text) or error.message}") from None
        except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
            raise ConfigError(f"{option}: {error}") from None
        if others:
            raise ConfigError(f"{option}: a template cannot include or import another one")
        self._globals = dict(environment.globals)
        self._null = _null(nulls)
        self._uses_row = "row" in used
        self._optional = {
            node.node.name
            for node in tree.find_all((nodes.Filter, nodes.Test))
            if node.name in _GUARDS and isinstance(node.node, nodes.Name)
        }
        self._columns = frozenset(used - self._optional - {"row"})
        taken = _taken_from_row(tree) if self._uses_row else {}
        self._of_row = {name: key for name, key in taken.items() if name not in self._optional}
        functions = {node.name for node in tree.find_all(nodes.Name) if node.name in environment.globals}
        self.reads = None if self._uses_row else frozenset(named | functions)
        """All columns that it may look at; None if that may be any. One may have the name of a function of Jinja's."""
        pieces = [_piece(part) for node in tree.body for part in getattr(node, "nodes", [node])]
        self._pieces = [piece for piece in pieces if piece is not None]
        self.plain = len(pieces) == len(self._pieces) and {name for _, name in self._pieces if name} == self._columns
        """Whether it only inserts columns, so that it cannot fail if they exist and none is null."""
        self.wordy = any(data.data.strip() for data in tree.find_all(nodes.TemplateData))
        """Whether it has words of its own. If it is plain too, its text is never empty."""
        called = {id(call.node) for call in tree.find_all(nodes.Call)}
        names = (node for node in tree.find_all(nodes.Name) if id(node) not in called)
        self.constant = not used and not any(name.name in environment.globals for name in names)
        """Whether every row gets the same text."""

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
            ConfigError: a column is undefined, or an operation fails or is not allowed; the message names the row's
                line.
        """
        if self.plain and (text := self._plainly(row.columns)) is not None:
            return text
        from .sandbox import METER, Meter, NullValue

        template = self._compiled
        values = {**self._globals, **row.columns}
        if self._uses_row:
            values.setdefault("row", row.columns)
        token = METER.set(Meter(self._null))
        try:
            # As Template.render does, but without merging the ChainMaps, which takes 4 of its 5 µs.
            context = template.new_context(values, shared=True)
            return template.environment.concat(template.root_render_func(context))
        except Exception as error:  # a template computes on data of any kind, so anything may be raised
            if missing := self.missing(row.columns):
                raise ConfigError(f"{row.at}: {self.about_missing(missing, row.columns, 'this row')}") from None
            if isinstance(error, NullValue):
                raise ConfigError(f"{row.at}: {self._about_null(row.columns)}") from None
            why = "it calls itself too deeply" if isinstance(error, RecursionError) else str(error)
            raise ConfigError(f"{row.at}: {self.option}: {why or type(error).__name__}") from None
        finally:
            METER.reset(token)

    def _plainly(self, columns: Mapping[str, Any]) -> str | None:
        """The text of a plain template, in a fifth of the time; None if an error must be reported."""
        made = []
        for text, name in self._pieces:
            value = text if name is None else columns.get(name)
            if is_null(value):
                return None
            made.append(value if isinstance(value, str) else str(value))
        return "".join(made) if sum(map(len, made)) <= LONGEST_PLAIN else None

    def missing(self, columns: Iterable[str]) -> str | None:
        """The first needed column (by name) that these lack; None if all are there."""
        known = set(columns)
        absent = self._columns - known
        if not absent and "row" not in known:  # a column of that name would be meant
            absent = frozenset(self._of_row.keys() - known)
        return min(absent) if absent else None

    def about_missing(self, name: str, columns: Iterable[str], where: str = "the input") -> str:
        """The message that it uses a missing column, with the columns that exist."""
        columns = list(columns)
        meant = next((each for each in columns if not each.isidentifier() and name in re.split(r"\W+", each)), None)
        hint = "" if meant is None else f"; write {_quoted(meant)} for {meant}"
        used = f"{{{{ {name} }}}}" if name in self._columns else _quoted(self._of_row[name])
        return f"{self.option} uses {used}, but {where} has no column {name}; it has: {listed(columns)}{hint}"

    def puts_in_null(self, columns: Mapping[str, Any]) -> bool:
        """Whether a column that it names is null."""
        return any(map(is_null, map(columns.get, self._columns)))

    def _about_null(self, columns: Mapping[str, Any]) -> str:
        names = sorted(name for name in self._columns | self._optional if name in columns and is_null(columns[name]))
        what = f"the column {names[0]} is null" if names else f"{self.option} puts in a value that is null"
        empty, word = (_written(self.option, "nulls", value) for value in ("empty", "None"))
        return f"{what}; {empty} puts nothing in its place, {word} the word None"


def _is_commands(option: str) -> bool:
    """Whether an option is the command's, or else a keyword argument."""
    return option.startswith("--")


def _written(beside: str, name: str, value: str) -> str:
    """Another option with its value, as it is written beside this one."""
    return f"--{name} {value}" if _is_commands(beside) else f"{name}={value!r}"


compiled = lru_cache(maxsize=64)(Template)
"""A template by text and option, compiled once. This lets a Recipe be plain data."""


def is_null(value: Any) -> bool:
    """Whether a value is missing: null, or NaN, as many tools write it."""
    return value is None or (isinstance(value, float) and value != value)


def check_varies(template: Template) -> None:
    """Refuse a template that gives every row the same prompt.

    Raises:
        ConfigError: with the form that was probably meant.
    """
    if not template.constant:
        return
    found = _OTHER_FORMS.search(template.text)
    meant = "put a column in, such as {{ text }}"
    if found is not None:
        name = found[1] or found[2] or found[3]
        meant = f"{found[0]} is written {{{{ {name} }}}}"
    way_out = "add --same-prompt" if _is_commands(template.option) else "give a function of a row"
    raise ConfigError(
        f"{template.option} asks the same of every row, because it has no placeholder; {meant}; "
        f"if you mean that, {way_out}"
    )


def check_is_no_file(template: Template) -> None:
    """Refuse the name of a file if its text is meant.

    Raises:
        ConfigError: such a file exists.
    """
    text = template.text.strip()
    is_file = False
    with suppress(OSError, ValueError):  # too long for a name, or not a valid one
        is_file = template.constant and Path(text).is_file()
    if is_file:
        raise ConfigError(f"{template.option} {text}: is a file; for its text, write {template.option} @{text}")


def _several_words(text: str) -> str:
    """How to write the first placeholder with a name of several words; "" if there is none."""
    from jinja2 import TemplateSyntaxError

    for found in _SEVERAL_WORDS.finditer(text):
        try:
            _environment().parse(found[0])
        except TemplateSyntaxError:
            return f"{found[0]} is no placeholder; a column with this name is written {_quoted(found[1])}"
    return ""


def _quoted(column: str | int) -> str:
    """The placeholder that takes a column from ``row``, such as one whose name is not an identifier."""
    return f"{{{{ row[{json.dumps(column, ensure_ascii=False)}] }}}}"


def listed(columns: Iterable[str], most: int = 20) -> str:
    """Columns' names for a message: at most ``most``, each cut to 60 characters."""
    names = [name if len(name) <= 60 else f"{name[:59]}…" for name in columns]
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _taken_from_row(tree: Any) -> dict[str, str | int]:
    """The columns that a template takes from ``row``, except where it provides for their absence, and its keys there.

    A key may be a number, ``row[1]``; the column's name is a text all the same.
    """
    from jinja2 import nodes

    if any(name.name == "row" and name.ctx != "load" for name in tree.find_all(nodes.Name)):
        return {}  # it calls something else ``row`` too
    tested = (test.node for test in tree.find_all((nodes.Filter, nodes.Test)) if test.name in _GUARDS)
    sought = {test.expr.value for test in tree.find_all(nodes.Compare) if isinstance(test.expr, nodes.Const)}
    optional = {_of_row(node) for node in tested} | sought  # `"text" in row` is such a test
    keys = set(map(_of_row, tree.find_all(nodes.Getitem))) - optional
    return {str(key): key for key in keys if key is not None}


def _of_row(node: Any) -> str | int | None:
    """The key by which an expression takes a column from ``row``; None if it is something else."""
    from jinja2 import nodes

    if not isinstance(node, nodes.Getitem) or not isinstance(node.node, nodes.Name) or node.node.name != "row":
        return None
    return node.arg.value if isinstance(node.arg, nodes.Const) and type(node.arg.value) in (str, int) else None


def _piece(node: Any) -> tuple[str, str | None] | None:
    """A template's own words, or the name of the column that it inserts; None if it computes something."""
    from jinja2 import nodes

    if isinstance(node, nodes.TemplateData):
        return node.data, None
    return ("", node.name) if isinstance(node, nodes.Name) else None


@lru_cache(maxsize=1)
def _environment() -> Sandbox:
    """The sandbox, made at the first template: importing jinja2 takes longer than `flatout --help` should."""
    from .sandbox import Sandbox

    return Sandbox()


def check_nulls(nulls: Nulls) -> None:
    """Check what a template is to do with a null.

    Raises:
        ConfigError: it is none of `Nulls`.
    """
    if nulls not in get_args(Nulls):
        raise ConfigError(f"nulls is {' or '.join(map(repr, get_args(Nulls)))}, not {nulls!r}")


def _null(nulls: Nulls) -> Any:
    """The replacement for a null that a template inserts."""
    from jinja2 import ChainableUndefined, StrictUndefined

    from .sandbox import NullValue

    if nulls == "error":
        return StrictUndefined(hint="a value is null", exc=NullValue)
    return ChainableUndefined() if nulls == "empty" else None
