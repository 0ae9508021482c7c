"""What the documentation takes from the code, so that it cannot fall behind it.

A page asks for it by a line of its own: ``<!-- generated: command -->``. This is an extension of Python-Markdown, which
fills such lines before anything else reads the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from msgspec import Struct

from docs._site.layout import layout

ROOT = Path(__file__).parents[2]
ASKED = re.compile(r"^<!-- generated: (\w+)(?: (\S+))? -->$", re.MULTILINE)


class Generated(Extension):
    """Fills the lines that ask for something generated."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's own name for it
        """Register the step that comes before all others."""
        md.preprocessors.register(_Fill(md), "generated", priority=1_000)


class _Fill(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return fill("\n".join(lines)).split("\n")


def fill(page: str) -> str:
    """Put in what a page asks for."""
    return ASKED.sub(lambda asked: GENERATORS[asked[1]](*filter(None, [asked[2]])), page)


def makeExtension(**options: Any) -> Generated:  # noqa: N802 - Markdown looks for this name
    """What Markdown calls to get the extension."""
    return Generated(**options)


# The command


def command() -> str:
    """Every command with its arguments, options and examples."""
    from flatout.cli.app import command as whole

    return "\n\n".join(_command(name, each) for name, each in commands(whole()))


def commands(group: Any, path: str = "flatout") -> Iterator[tuple[str, Any]]:
    """Each command that does something, by its full name."""
    for name, each in group.commands.items():
        if getattr(each, "invoke_without_command", False):  # a group that does something by itself
            yield f"{path} {name}", each
        if hasattr(each, "commands"):
            if each.invoke_without_command:
                yield f"{path} {name}", each
            yield from commands(each, f"{path} {name}")
        else:
            yield f"{path} {name}", each


def _command(name: str, each: Any) -> str:
    parts = [f"## {name}", _prose(each.help), f"```text\n{' '.join([name, *_usage(each)])}\n```"]
    panels: dict[str, list[Any]] = {}
    for one in each.params:
        panels.setdefault(getattr(one, "rich_help_panel", None) or "", []).append(one)
    for panel, members in panels.items():
        parts += [f"### {panel} {{ #{_slug(name)}-{_slug(panel)} }}"] if panel else []
        rows = [f"| {_names(one)} | {_meaning(one)} |" for one in members]
        parts.append("\n".join(["| Option | |", "|---|---|", *rows]))
    return "\n\n".join([*parts, _epilog(each.epilog or "", name)])


def _usage(each: Any) -> list[str]:
    arguments = [one.metavar for one in each.params if one.param_type_name == "argument"]
    return [*arguments, "[OPTIONS]"]


def _names(one: Any) -> str:
    value = one.metavar or ""
    if one.param_type_name == "argument":
        return f"`{value}`"
    names = ", ".join(f"`{name}`" for name in one.opts)
    return names + (f" <code>{_cell(value).replace('[', '&#91;')}</code>" if value else "")  # else a link in Markdown


def _meaning(one: Any) -> str:
    default = one.default if one.default not in (None, False, 0, ()) else None
    shown = f" Default: `{default}`." if default is not None and not callable(default) else ""
    return _cell(_prose(one.help or "")) + ("" if default is None else shown)


def _epilog(text: str, name: str) -> str:
    """Examples as a block of code; the rest as paragraphs."""
    shown, prose = [], []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("$ "):
            shown.append(f"```console\n{paragraph}\n```")
        elif paragraph.startswith("[bold]") and paragraph.endswith("[/bold]"):
            shown.append(f"### {paragraph[6:-7]} {{ #{_slug(name)}-{_slug(paragraph[6:-7])} }}")
        elif shown and not prose and len(shown) % 2 == 0 and paragraph.endswith(":"):
            shown.append(_prose(paragraph))
        else:
            prose.append(_prose(paragraph))
    return "\n\n".join([*shown, *prose])


def _prose(text: str) -> str:
    """Rich's markup as Markdown's; what templates and placeholders look like as code."""
    text = re.sub(r"\[bold\]-\[/bold\]", "`-`", text)
    text = re.sub(r"\[/?bold\]", "**", text)
    return re.sub(r"\{\{.*?\}\}", lambda found: f"`{found[0]}`", text)


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("\n", " ")


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


# Errors


def errors() -> str:
    """Every error, in the order of the tree. A class that has others below it is a section of its own."""
    from flatout import errors as module

    every = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    families = {base for each in every for base in each.__bases__}
    return "\n\n".join(_error(each.__name__, 2 if each in families else 3) for each in every)


def _error(name: str, level: int) -> str:
    options = {
        "heading_level": level,
        "show_symbol_type_heading": False,
        "show_symbol_type_toc": False,
        "members": [],
        "merge_init_into_class": False,  # only flatout makes them, so nobody needs their parameters
    }
    return f"::: flatout.{name}\n    options: {json.dumps(options)}"


# flatout.toml


def settings(name: str) -> str:
    """The settings of one table of flatout.toml, from the docstring of the struct that it becomes."""
    struct = structs()[name]
    docstring = griffe.Docstring(struct.__doc__ or "")
    told = {
        entry.name: entry.description.replace("\n", " ")
        for section in griffe.parse_google(docstring, warnings=False)
        if section.kind is griffe.DocstringSectionKind.parameters
        for entry in section.value
    }
    rows = [f"| `{field}` | {_cell(told[field])} |" for field in struct.__struct_fields__ if field in told]
    return "\n".join(["| | |", "|---|---|", *rows])


def structs() -> dict[str, type[Struct]]:
    """What the tables of flatout.toml become."""
    from flatout.config.file import Config, EndpointConfig, Price
    from flatout.values import Limits

    return {each.__name__: each for each in (Config, EndpointConfig, Limits, Price)}


# Changes


def changes() -> str:
    """The change log, whose own heading is the page's."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2]


GENERATORS = {"command": command, "errors": errors, "settings": settings, "changes": changes, "layout": layout}
