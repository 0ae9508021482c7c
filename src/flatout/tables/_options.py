"""Keyword arguments that a question to a table does not take, with the reason: each is refused before anything is sent.

`Answers` passes the names that it does not know on to the calls, because providers have parameters that flatout does
not know. So an option that belongs elsewhere would be sent to the provider, or act in another way than elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flatout.edge.parameters import UnknownOption
from flatout.errors import ConfigError

from ._columns import Extra

_OF_A_TABLE = ("store", "retry_failed", "lane", "within", "progress", "ahead")
"""Options of the answers to one table."""

_ELSEWHERE = {
    "models": "a table has one answer a row: ask once for each model, with another name in into=",
    "samples": "a table has one answer a row: ask several times, with another name in into= each time",
    "workers": "a table is answered by one process; `flatout run --workers` takes several",
    "strict": "a row that fails has its error in a column, and the others their answers",
}
"""Options of many calls at once that a table has not."""


def check_belongs(options: Mapping[str, Any]) -> None:
    """Refuse options of many calls that a table has not.

    Raises:
        UnknownOption: there is one; the message says what to do instead.
    """
    for name in _ELSEWHERE:
        if name in options:
            raise UnknownOption(f"{name} is no option here: {_ELSEWHERE[name]}")


def check_for_many_tables(options: Mapping[str, Any]) -> None:
    """Refuse what belongs to one table, where an object is made that is called for many.

    Raises:
        UnknownOption: there is such an option; the message says where it belongs.
    """
    for name in _OF_A_TABLE:
        if name in options:
            keeps = "; cache= keeps the answers to many tables" if name in ("store", "retry_failed") else ""
            raise UnknownOption(
                f"{name} belongs to one table: flatout.tables.answer takes it, and so does each call of an "
                f"Answers, as answers.stream(batches, {name}=…){keeps}"
            )


def check_added(into: Any, extras: Mapping[str, Extra]) -> None:
    """Check the names that the user gives to the added columns.

    Args:
        into: the name of the answers' column; None if there is none.
        extras: the columns beside it, by the options that name them.

    Raises:
        ConfigError: a name is empty or no text, or two columns would have it.
    """
    if into is not None and not (isinstance(into, str) and into):
        raise ConfigError(f"into is the name of a column, not {into!r}")
    given: dict[str, str] = {} if into is None else {into: "into"}
    for option, extra in extras.items():
        _check_wanted(option, extra)
        for name in _names(extra):
            if (other := given.setdefault(name, option)) != option:
                raise ConfigError(f"{other} and {option} would both add a column {name}; choose another name for one")


def _check_wanted(option: str, extra: Extra) -> None:
    wanted: Any = extra.wanted
    several = len(extra.fields) > 1
    if isinstance(wanted, bool) or (isinstance(wanted, str) and wanted and not several):
        return
    may_be = "True or False" if several else "True, False or the name of a column"
    raise ConfigError(f"{option} is {may_be}, not {wanted!r}")


def _names(extra: Extra) -> Sequence[str]:
    """The names of the columns that an option adds, if the table has none of them."""
    if isinstance(extra.wanted, str):
        return [extra.wanted]
    return extra.fields if extra.wanted else ()
