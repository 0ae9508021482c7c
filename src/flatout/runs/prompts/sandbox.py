"""Jinja's sandbox with a meter: a template takes a bounded number of steps and makes a bounded amount of text.

Jinja keeps a template away from Python's insides, but not from the machine's time and memory: nested loops run for
hours, and ``'x'.ljust(10**10)`` fills the memory in one call. While a template is rendered, this module counts three
things:

- Each turn of a loop, each call and each operation is a step.
- The input of an operation is weighed before it begins: each item of a list is a step, however deep, and the characters
  of texts add up. A list that holds another one a million times weighs as much as its text would.
- The few operations whose result can be much larger than their input (repeating, padding, replacing, joining) are
  weighed by their result.

Exceeding a limit raises OverflowError before the operation runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.filters import do_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context, pass_eval_context
from jinja2.visitor import NodeTransformer

from flatout.text.halves import to_json

from .growth import FILTER_STEPS, FILTERS, METHODS, TEXTS, check_operands, percents_made

LONGEST_PROMPT = 64 * 1024 * 1024
"""Characters that one template may make."""

MOST_STEPS = 500_000
"""Steps that one rendering may take; they last one to three seconds."""

MOST_CHARACTERS = 2 * LONGEST_PROMPT
"""Characters that all operations of one rendering may read and make."""

_SLOW = {"pprint": 50, "title": 10, "urlize": 50, "wordcount": 10, "wordwrap": 50, "xmlattr": 10}
"""Filters that are slower than others, with how many times longer they take for a character."""

_SHALLOW = frozenset({"length", "count", "first", "last", "default", "d", "get", "keys", "values", "items"})
"""Filters and methods that do not read through their input."""

_APART = frozenset({"batch", "groupby", "join", "list", "map", "slice", "sort", "unique"})
"""Filters that may keep each character of a text separately, which takes up to 100 times its memory."""

_TAKE_NULL = frozenset({"tojson", "int", "float"})
"""Filters that handle null themselves."""

_LISTS: tuple[Any, ...] = (list, tuple, set, frozenset, type({}.items()), type({}.values()), type({}.keys()))


class NullValue(jinja2.UndefinedError):
    """A template put a null into its text."""


class Meter:
    """Counts the work of one rendering.

    Args:
        null: replaces each null that is put into the text; None leaves nulls as they are.
    """

    __slots__ = ("_characters", "_null", "_steps")

    def __init__(self, null: Any = None) -> None:
        self._null = null
        self._steps = MOST_STEPS
        self._characters = MOST_CHARACTERS

    def step(self, count: int = 1) -> None:
        """Count steps."""
        self._steps -= count
        if self._steps < 0:
            raise OverflowError(f"it takes more than {MOST_STEPS:,} steps")

    def characters(self, count: int) -> None:
        """Count characters."""
        self._characters -= count
        if self._characters < 0:
            raise OverflowError(f"it handles more than {MOST_CHARACTERS:,} characters")

    def weigh(self, *values: Any, times: int = 1) -> None:
        """Count the values that an operation reads, which takes ``times`` as long as usual."""
        self.step()
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if isinstance(value, TEXTS):
                self.characters(len(value) * times)
            elif isinstance(value, Mapping):
                self.step(len(value) * times)
                waiting += value.keys()
                waiting += value.values()
            elif isinstance(value, _LISTS):
                self.step(len(value) * times)
                waiting += value
            elif isinstance(value, range):
                self.step(len(value) * times)

    def shown(self, value: Any) -> Any:
        """The value to put into the text. Null and NaN are replaced."""
        missing = value is None or (isinstance(value, float) and value != value)
        return self._null if missing and self._null is not None else value


METER: ContextVar[Meter] = ContextVar("meter")
"""The meter of the rendering in progress."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all templates; see the module's docstring."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            optimized=False,  # constant expressions would be computed at compile time, without a meter
            finalize=_put,
        )
        # A prompt that differs each time it is rendered could not be resumed.
        del self.filters["random"], self.globals["lipsum"]
        self.globals["namespace"] = _Namespace
        self.filters |= {"tojson": _to_json, "join": _join}
        self.filters = {name: _metered(name, each, null=name not in _TAKE_NULL) for name, each in self.filters.items()}
        self.filters |= _OWN_FILTERS
        tests: dict[str, Any] = self.tests  # functions, though the stubs say otherwise
        self.tests = {name: _metered(name, each, null=False) for name, each in tests.items()}

    def compiled(self, tree: nodes.Template) -> jinja2.Template:
        """The template of a syntax tree, with every operation counted."""
        return jinja2.Template.from_code(self, self.compile(_Metered().visit(tree)), self.make_globals(None))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Count an operation, then perform it."""
        meter = METER.get()
        meter.weigh(left, right)
        if operator == "%" and isinstance(left, TEXTS):
            right = tuple(map(meter.shown, right)) if isinstance(right, tuple) else meter.shown(right)
            meter.characters(percents_made(left))
        else:
            check_operands(operator, left, right, MOST_STEPS, LONGEST_PROMPT)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Count a call, then make it."""
        meter = METER.get()
        method = getattr(obj, "__wrapped__", obj)  # str.format is wrapped
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if name in _SHALLOW:
            meter.weigh(args)
            return super().call(context, obj, *args, **kwargs)
        if isinstance(owner, (*TEXTS, int)):
            args = tuple(list(each) if isinstance(each, Iterator) else meter.shown(each) for each in args)
            kwargs = {key: meter.shown(each) for key, each in kwargs.items()}
        meter.weigh(owner, args, kwargs)
        if isinstance(owner, (*TEXTS, int)) and name in METHODS:
            meter.characters(METHODS[name](owner, *args, **kwargs))
        return super().call(context, obj, *args, **kwargs)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up an item. Hashing a key reads through it. A number stands for a key that is its text: ``row[1]``."""
        METER.get().weigh(argument)
        if type(argument) is int and isinstance(obj, dict) and argument not in obj:
            argument = str(argument)  # as columns and JSON's fields are named
        return super().getitem(obj, argument)

    def concat(self, parts: Any) -> str:
        """Join the text of a template or a block."""
        kept, size = [], 0
        for part in parts:
            size += len(part)
            if size > LONGEST_PROMPT:
                raise OverflowError(f"it makes more than {LONGEST_PROMPT:,} characters")
            kept.append(part)
        METER.get().characters(size)
        return "".join(kept)


class _Metered(NodeTransformer):
    """Wraps the operations that Jinja's sandbox cannot intercept, so that they are counted."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        turn = _through("(turn)", [nodes.Const(None, lineno=node.lineno)], node)
        node.body.insert(0, nodes.ExprStmt(turn, lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(turn, node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through("(texts)", node.nodes, node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _through("(weighed)", [node.expr], node)
        for operand in node.ops:
            operand.expr = _through("(weighed)", [operand.expr], node)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _through("(apart)", [node.dyn_args], node)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _through("(weighed)", [node.key], node)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _through("(weighed)", [node.node], node)
        return node


def _through(name: str, values: list[nodes.Expr], node: nodes.Node) -> nodes.Filter:
    return nodes.Filter(values[0], name, values[1:], [], None, None, lineno=node.lineno)


def _turn(_: Any) -> bool:
    """Begin one turn of a loop."""
    METER.get().step()
    return True


def _weighed(value: Any) -> Any:
    """Pass a value on to an operation that reads through it."""
    METER.get().weigh(value)
    return value


def _apart(value: Any) -> Any:
    """Pass a value on to an operation that splits a text into characters."""
    if isinstance(value, TEXTS):
        METER.get().step(len(value))
    return value


def _texts(*values: Any) -> str:
    """Join values, as ``~`` does."""
    meter = METER.get()
    meter.weigh(values)
    return "".join(str(meter.shown(value)) for value in values)


_OWN_FILTERS = {"(turn)": _turn, "(weighed)": _weighed, "(texts)": _texts, "(apart)": _apart}
"""The filters that `_Metered` puts into templates. No template can write these names."""


def _metered(name: str, function: Callable[..., Any], *, null: bool) -> Callable[..., Any]:
    """A counted filter or test. ``null``: whether its input becomes part of the text."""
    behind = 1 if hasattr(function, "jinja_pass_arg") else 0  # the context comes before the value
    times = _SLOW.get(name, 1)

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        meter = METER.get()
        values = args[behind:]
        if null and values:
            values = (meter.shown(values[0]), *values[1:])
        if name in _SHALLOW:
            meter.step()
        else:
            meter.weigh(values, kwargs, times=times)
            if name in _APART:
                _apart(values[0])
            if name in FILTER_STEPS:
                meter.step(FILTER_STEPS[name](*values, **kwargs))
            if name in FILTERS:
                meter.characters(FILTERS[name](*values, **kwargs))
        found = function(*args[:behind], *values, **kwargs)
        return _stepped(found, meter) if isinstance(found, Iterator) else found

    return counted


def _stepped(items: Iterator[Any], meter: Meter) -> Iterator[Any]:
    for item in items:
        meter.step()
        yield item


@pass_context
def _put(_: Any, value: Any) -> Any:
    """A value on its way into the text."""
    meter = METER.get()
    meter.weigh(value)
    return meter.shown(value)


@pass_eval_context
def _join(context: Any, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    meter = METER.get()
    items = [meter.shown(item) for item in value]
    meter.characters(len(items) * len(str(d)))
    return str(do_join(context, items, d, attribute))


def _to_json(value: Any) -> str:
    # Jinja's own filter escapes for HTML; a model would have to read \u003c.
    return to_json(value).decode()


class _Namespace(Namespace):
    """Jinja's namespace, with a repr that does not show everything it holds."""

    def __repr__(self) -> str:
        return "<namespace>"
