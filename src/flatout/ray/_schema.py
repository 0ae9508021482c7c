"""What Ray infers of a question's step, so that nobody pays for a look at the types of the columns.

Ray runs a Dataset to find out a schema that it does not know: for one row where it can stop there, and for all of them
where a sort follows. The types of a question's step follow from those of the rows that are asked. So Ray is told them,
or runs what comes before the question.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from inspect import signature
from types import FrameType
from typing import Any

from flatout import tables
from flatout.tables._arrow import arrow


class Inferred:
    """What takes the place of ``infer_schema`` in a question's step.

    Args:
        answers: the question.
        given: the Dataset before it.
    """

    def __init__(self, answers: tables.Answers, given: Any) -> None:
        self._answers = answers
        self._given = given

    def __call__(self) -> Any:
        """The schema of the answered rows; None if nobody knows it and Ray does not want to run anything.

        Raises:
            ConfigError: the Dataset lacks a column that the prompt names, or has one that would be added.
        """
        known = self.known()
        if known is None and _is_wanted() and (given := self._looked_at()) is not None:
            return self._answers.schema(given)
        return known

    def known(self) -> Any:
        """The schema of the answered rows; None if Ray does not know that of the rows before the question.

        It knows blocks of pandas by other types than those that come out, so only their columns' names are checked.

        Raises:
            ConfigError: as for a call.
        """
        given = self._given.schema(fetch_if_missing=False)
        if given is None:
            return None
        if (schema := _arrows(given)) is not None:
            return self._answers.schema(schema)
        pa = arrow()
        self._answers.schema(pa.schema([(name, pa.null()) for name in given.names]))
        return None

    def _looked_at(self) -> Any:
        """The schema of the first row before the question, which Ray makes for it; None if there is no row."""
        if (given := self._given.schema()) is None:
            return None
        if (found := _arrows(given)) is not None:
            return found
        return _arrows(self._given.limit(1).map_batches(_unchanged, batch_format="pyarrow").schema())


def declare(answered: Any, inferred: Inferred) -> None:
    """Have the last step of a Dataset infer its schema so.

    ``map_batches`` has no option for it, so this sets a method of the step. A Ray that has another method there, or
    none, keeps its own way: it asks rows. ``with_columns`` over a ``udf`` takes the types (Ray 2.60, alpha), but hands
    over the columns that are named, not rows, and a look at types that Ray does not know would ask a row.
    """
    with suppress(AttributeError, TypeError):
        step = answered._logical_plan.dag
        if not signature(step.infer_schema).parameters:
            object.__setattr__(step, "infer_schema", inferred)  # the step is a frozen dataclass


def _is_wanted() -> bool:
    """Whether Ray would otherwise run the question for the schema that it asks for now.

    It does where somebody looks at the schema; and ``drop_columns`` becomes a function, whose schema is found out by
    running all of it. Ray asks in other places, too: to show a Dataset, and while it plans. Only its frames tell them
    apart.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name not in ("_base_schema", "drop_columns"):
        frame = frame.f_back
    return frame is not None and bool(frame.f_locals.get("fetch_if_missing", True))


def _arrows(schema: Any) -> Any:
    """A schema of Ray's as Arrow's; None if it is of another kind."""
    base = getattr(schema, "base_schema", None)
    return base if isinstance(base, arrow().Schema) else None


def _unchanged(table: Any) -> Any:
    """The same rows; Ray has made Arrow's of them."""
    return table
