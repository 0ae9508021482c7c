"""What is asked of each row: a template with the row's columns in it, or what a function makes of the row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from inspect import iscoroutinefunction
from typing import Any

from flatout.errors import ConfigError
from flatout.runs.input.rows import InputSource, Row
from flatout.runs.prompts.template import (
    Nulls,
    Template,
    check_is_no_file,
    check_nulls,
    check_varies,
    compiled,
    listed,
)
from flatout.values import CallLike

Prompt = str | Callable[[Mapping[str, Any]], CallLike]
"""A template such as ``"Spam or ham? {{ text }}"``, or a function of a row, which returns a prompt or a Call."""

_SOURCE = InputSource("the table", "parquet")


class Question:
    """Makes the call of a row.

    Args:
        prompt: a template or a function.
        system: the system prompt, which may have columns in it too.
        nulls: what a template does with a null.

    Raises:
        ConfigError: a template does not compile, or asks the same of every row, or ``nulls`` is another word.
    """

    def __init__(self, prompt: Prompt, system: str | None = None, nulls: Nulls = "error") -> None:
        check_nulls(nulls)
        if not isinstance(prompt, str) and not callable(prompt):
            raise ConfigError(f"prompt is a template or a function of a row, not a {type(prompt).__name__}")
        if iscoroutinefunction(prompt):
            raise ConfigError("prompt is an async function; a function of a row returns its prompt at once")
        self._function = None if isinstance(prompt, str) else prompt
        self._prompt = compiled(prompt, "prompt", nulls) if isinstance(prompt, str) else None
        system_template = None if system is None else compiled(system, "system", nulls)
        self._system = None if system_template is None or system_template.constant else system_template
        self.common = {} if system is None or self._system is not None else {"system": system}
        """The parameters of all calls."""
        if nulls != "error" and not self._templates():
            raise ConfigError("nulls is for templates: a function receives None where a row has a null")
        for template in self._templates():
            check_is_no_file(template)
        if self._prompt is not None and all(template.constant for template in self._templates()):
            check_varies(self._prompt)

    @property
    def names_models(self) -> bool:
        """Whether each row's call may name a model of its own."""
        return self._function is not None

    def check(self, columns: Sequence[str]) -> None:
        """Check that a table has the columns that are named.

        Raises:
            ConfigError: it lacks one, and the message names the nearest; or it has two of that name.
        """
        check_single(self.reads(columns), columns)
        for template in self._templates():
            if (missing := template.missing(columns)) is not None:
                raise ConfigError(template.about_missing(missing, columns, "the table") + nearest(missing, columns))

    def reads(self, columns: Collection[str]) -> list[str]:
        """Those of a table's columns that it may look at."""
        known = [template.reads for template in self._templates()]
        if self._function is not None or None in known:
            return list(columns)
        found = [name for name in columns if any(name in reads for reads in known if reads is not None)]
        return found or list(columns)[:1]  # a table without columns would have no rows

    def call(self, index: int, columns: Mapping[str, Any]) -> CallLike:
        """The call of a row.

        Args:
            index: the row's place, from 0.
            columns: its values.

        Raises:
            ConfigError: a template cannot be filled in, or the prompt is empty.
            Exception: whatever the function raises.
        """
        asked = self._asked(index, columns)
        if self._system is None:
            return asked
        return {"prompt": asked, "system": self._filled(self._system, index, columns)}

    def _asked(self, index: int, columns: Mapping[str, Any]) -> CallLike:
        if self._prompt is None:
            return self._function(columns) if self._function is not None else ""
        prompt = self._filled(self._prompt, index, columns)
        if not prompt.strip():
            raise ConfigError("the prompt is empty")
        return prompt

    def _templates(self) -> list[Template]:
        return [each for each in (self._prompt, self._system) if each is not None]

    @staticmethod
    def _filled(template: Template, index: int, columns: Mapping[str, Any]) -> str:
        row = Row(index, index + 1, dict(columns), _SOURCE)
        try:
            return template.render(row)
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix(f"{row.at}: ")) from None


def nearest(name: str, columns: Collection[str]) -> str:
    """The end of a message that a column is missing: the one that was probably meant."""
    close = get_close_matches(name, list(columns), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def check_single(names: Sequence[str], columns: Sequence[str]) -> None:
    """Check that no name stands for several columns of a table.

    Args:
        names: the names.
        columns: the table's columns.

    Raises:
        ConfigError: it has two columns of one of these names.
    """
    counts = Counter(columns)
    for name in names:
        if (many := counts[name]) > 1:
            raise ConfigError(f"the table has {many} columns {name}; rename all but one")


def check_column(name: str, columns: Sequence[str]) -> None:
    """Check that a table has a column.

    Raises:
        ConfigError: it has none of that name, and the message names the nearest; or it has two.
    """
    check_single([name], columns)
    if name not in columns:
        raise ConfigError(f"the table has no column {name}; it has: {listed(columns)}{nearest(name, columns)}")
