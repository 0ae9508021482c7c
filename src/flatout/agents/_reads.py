"""Finds the attributes that a function reads from its first parameter, in its bytecode, without running it."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

_LOADS = re.compile("LOAD_FAST|LOAD_DEREF")
"""Matches instructions that load a variable. In Python 3.13 and later, some also store another variable first."""


def attributes_read(check: Any) -> frozenset[str]:
    """The attributes that a function, or a callable object, reads from its first parameter.

    Reads in other functions, or by another name of the parameter, are not found. An object can list the attributes
    itself in ``needs``, because they may depend on its arguments.
    """
    if (needs := getattr(check, "needs", None)) is not None:
        return frozenset(needs)
    given = 0
    while isinstance(check, partial):
        given += len(check.args)
        check = check.func
    if not isinstance(check, FunctionType | MethodType):
        check = getattr(check, "__call__", None)  # noqa: B004  # the method itself is examined
    given += isinstance(check, MethodType)
    code = getattr(inspect.unwrap(check), "__code__", None)
    if code is None or code.co_argcount <= given:
        return frozenset()
    return frozenset(_read(code, code.co_varnames[given]))


def _read(code: CodeType, name: str) -> Iterator[str]:
    """The attributes of a variable that some code reads, including its inner functions."""
    loaded: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and _last(loaded) == name:
            yield instruction.argval
        loaded = instruction.argval if _LOADS.search(instruction.opname) else None
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and name in inner.co_freevars:
            yield from _read(inner, name)


def _last(loaded: Any) -> Any:
    """The variable on top of the stack. Some instructions load two at once (Python 3.13)."""
    return loaded[-1] if isinstance(loaded, tuple) else loaded
