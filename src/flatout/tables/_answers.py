"""`Answers`: a question to every row of record batches, as one object that travels to other processes."""

from __future__ import annotations

import math
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from flatout.client import Client
from flatout.edge.parameters import CALL, CLIENT, check_names, check_store
from flatout.errors import ConfigError
from flatout.lanes.offers import Wanted
from flatout.progress._following import ShowProgress
from flatout.runs.prompts.template import Nulls
from flatout.values import OutputType

from ._arrow import arrow, sliced
from ._columns import Cell, Columns, extras_of, joined
from ._flow import Check, Part, answered
from ._inputs import blocking
from ._keys import concealed, without_keys
from ._options import check_added, check_belongs, check_for_many_tables
from ._question import Prompt, Question
from ._station import Begin, Station
from ._streams import Added
from ._whole import Whole, check_fits, whole_of


class Run(Struct, frozen=True):
    """How the rows of one input are asked; see `Answers.stream`."""

    ahead: float | None = None
    store: str | os.PathLike[str] | None = None
    retry_failed: bool = False
    lane: Wanted = "live"
    within: float | str | None = None
    progress: ShowProgress = False

    def __post_init__(self) -> None:
        ahead: Any = self.ahead
        if ahead is not None and not (isinstance(ahead, int | float) and ahead > 0):
            raise ConfigError(f"ahead is a number of rows above 0, not {ahead!r}")  # no batch would be read after one
        check_store(self.store, retry_failed=self.retry_failed)

    @property
    def live(self) -> bool:
        """Whether rows are asked as they come. Otherwise all of them are read first."""
        return self.lane == "live" and self.within is None

    def options(self) -> dict[str, Any]:
        """The options of `Client.as_completed`."""
        names = ("store", "retry_failed", "lane", "within", "progress")
        return {name: getattr(self, name) for name in names}


OWN = frozenset({"prompt", "into", "error", "tokens", "cost", "replace", "nulls", *Run.__struct_fields__})
"""The options that a question to a table has beside those of the client and of calls."""


class Answers:
    """A question to every row of a table: a callable over Arrow record batches.

    It is plain data and can be pickled, so an engine (Ray, Spark, Daft, Dask) can send it to its workers. It connects
    with the first batch, in a thread of its own; after unpickling it starts anew. Several threads may call it at once:
    they share one client, with its limits and its budget, and the table that came first is asked first.

    ::

        answers = Answers("Spam or ham? {{ text }}", model="openai/gpt-5-mini", output=Literal["spam", "ham"])
        answered = answers(batch)                      # a record batch or a table, with columns added
        for answered in answers.stream(batches): ...   # many, with the window full across them
        answers.schema(batch.schema)                   # what comes out, known in advance

    Args:
        prompt: a template with the row's columns in it, ``"Spam or ham? {{ text }}"``, or a function that receives the
            row as a dict and returns a prompt or a `Call`.
        model: ``provider/model``; needed unless a function's calls name their models.
        output: what every answer must be: a type, or a JSON schema. It decides the types of the added columns.
        into: the name of the answers' column. Without it, an object's fields become columns of their own, and other
            answers the column ``answer``.
        error: whether to add the column ``error``, which says why a row has no answer; or that column's name.
        tokens: whether to add the columns ``input_tokens`` and ``output_tokens``.
        cost: whether to add the column ``cost``, in US dollars; or that column's name.
        replace: whether columns that a table has already may be replaced. Otherwise such a table is refused.
        system: the system prompt. It may be a template too.
        nulls: what a template does with a null: ``"error"`` gives the row an error, ``"empty"`` inserts nothing, and
            ``"None"`` the word None.
        **options: options of the `Client`, such as ``limits=Limits(rpm=600)``, and parameters of all calls, such as
            ``temperature=0``, as for `flatout.run`.

    Raises:
        ConfigError: an option is wrong; nothing was sent.
    """

    def __init__(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        output: OutputType[Any] | None = None,
        into: str | None = None,
        error: bool | str = True,
        tokens: bool = False,
        cost: bool | str = False,
        replace: bool = False,
        system: str | None = None,
        nulls: Nulls = "error",
        **options: Any,
    ) -> None:
        concealed(options)
        check_for_many_tables(options)
        check_belongs(options)
        check_names(options, CALL | CLIENT, own=OWN, client="{}")
        check_added(into, extras_of(error, tokens, cost))
        self._asks: dict[str, Any] = {"prompt": prompt, "system": system, "nulls": nulls}
        self._adds: dict[str, Any] = {"into": into, "error": error, "tokens": tokens, "cost": cost, "replace": replace}
        self._options: dict[str, Any] = {"model": model, "output": output, **options}
        self._prepare()

    def _prepare(self) -> None:
        self._question = Question(**self._asks)
        own = {name: value for name, value in self._options.items() if name in CLIENT and name != "seed"}
        calls = {name: value for name, value in self._options.items() if name not in own and value is not None}
        self._of_calls = calls | self._question.common
        self._station = Station(partial(Client, **own))

    def __repr__(self) -> str:
        return f"Answers({self._asks['prompt']!r}, model={self._options['model']!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"asks": self._asks, "adds": self._adds, "options": without_keys(self._options)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._asks, self._adds, self._options = state["asks"], state["adds"], state["options"]
        concealed(self._options)
        self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread. Without it, they end with this object, or with the program."""
        self._station.close()

    def schema(self, given: Any) -> Any:
        """The schema of an answered table: the given one with the added columns.

        Args:
            given: a schema, or a table, of any library that speaks Arrow's C interface.

        Returns:
            A schema of pyarrow's.

        Raises:
            ConfigError: the table lacks a column that the prompt names, or has one that would be added.
        """
        schema = _schema(given)
        self._added(schema.names)
        return self._columns.schema(schema)

    def __call__(self, table: Any, **run: Any) -> Any:
        """Answer the rows of a record batch or a table, and return it with the added columns.

        Args:
            table: a record batch or a table: Arrow's, or a frame that `answer` takes, unless it is lazy.
            **run: ``store``, ``retry_failed``, ``lane``, ``within`` and ``progress``, as for `stream`.

        Raises:
            ConfigError: the table lacks a column that the prompt names, or has one that would be added; or an option of
                the client is wrong.
        """
        whole, added = self._given(table)
        parts = self._station.each(self._in_whole(whole, Run(**run)))
        return whole.attach(self._table(parts, added))

    async def call_async(self, table: Any, **run: Any) -> Any:
        """As calling it, in a program with an event loop: the loop goes on while the answers come."""
        whole, added = self._given(table)
        parts = self._station.each_async(self._in_whole(whole, Run(**run)))
        return whole.attach(self._table([part async for part in parts], added))

    def stream(
        self,
        batches: Iterable[Any],
        ahead: float | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        retry_failed: bool = False,
        lane: Wanted = "live",
        within: float | str | None = None,
        progress: ShowProgress = False,
    ) -> Iterator[Any]:
        """Answer record batches, and yield each with the added columns, in order.

        While a batch waits for its last answers, rows of the following ones are asked. So the limits are used to the
        full, however small the batches are. A thread reads the batches.

        Args:
            batches: record batches, of any library that speaks Arrow's C interface.
            ahead: a further batch is read while fewer rows than this have been read and not yielded; ``math.inf`` for
                all. By default they keep the limits used: the rows of two minutes at ``rpm``, 12 for each of
                ``concurrency``, 12,000 if neither is known.
            store: a run file, which keeps every answer. Rows that it has, at the same place and with the same prompt,
                are not asked again.
            retry_failed: as for `Client.as_completed`.
            lane: as for `Client.as_completed`. For another lane than ``live`` all batches are read first.
            within: as for `Client.as_completed`.
            progress: as for `Client.as_completed`.

        Raises:
            ConfigError: as for a call.
            RunMismatch: the run file belongs to other rows; the message names the first that differs.
            StoreError: the run file cannot be used.
        """
        run = Run(ahead, store, retry_failed, lane, within, progress)
        for part in self._station.each(self._in_batches(blocking(batches), run, check=self._added)):
            yield self._joined(part)

    async def stream_async(
        self, batches: Iterable[Any] | AsyncIterable[Any], ahead: float | None = None, **run: Any
    ) -> AsyncIterator[Any]:
        """As `stream`, in a program with an event loop. The batches may come from an async generator."""
        begin = self._in_batches(blocking(batches), Run(ahead, **run), check=self._added)
        async for part in self._station.each_async(begin):
            yield self._joined(part)

    def _in_pieces(self, **run: Any) -> Added:
        """What is added to a table that comes in pieces."""
        to, beside = partial(self.stream, **run), partial(self._beside, **run)
        return Added(to, self._question.reads, self._added, beside)

    @cached_property
    def _columns(self) -> Columns:
        return Columns.of(self._options["output"], **self._adds)

    def _added(self, names: Sequence[str]) -> Any:
        """The schema of the columns that a table with these names gets."""
        self._question.check(names)
        return self._columns.added(names)

    def _given(self, table: Any) -> tuple[Whole, Any]:
        whole = whole_of(table)
        if whole.rows and not whole.names:
            raise ConfigError("the table has rows, but no columns to ask about")
        added = self._added(whole.names)
        check_fits(whole, added.names)
        return whole, added

    def _in_whole(self, whole: Whole, run: Run) -> Begin[Part[Cell]]:
        batches = sliced(whole.batches(self._question.reads(whole.names)))
        begin = self._in_batches(batches, run, whole.rows)
        return lambda client: begin(client, turn=self._station.turn)

    def _in_batches(
        self, batches: Iterator[Any], run: Run, total: int | None = None, check: Check | None = None, **how: bool
    ) -> Callable[..., AsyncGenerator[Part[Cell], None]]:
        ahead = run.ahead if run.live else math.inf
        options = {**run.options(), **self._of_calls, "total": total, "check": check, **how}
        return partial(answered, batches=batches, question=self._question, ahead=ahead, **options)

    def _beside(self, batches: Iterator[Any], names: Sequence[str], is_part: bool, **run: Any) -> Iterator[Any]:
        """The added columns alone, of batches without the columns that are not looked at.

        Args:
            batches: the batches.
            names: all columns of their table.
            is_part: whether the table may have more rows.
            **run: as for `stream`.
        """
        added = self._added(names)
        for part in self._station.each(self._in_batches(batches, Run(**run), is_part=is_part)):
            yield self._columns.batch(part.whole(), added)

    def _joined(self, part: Part[Cell]) -> Any:
        """The batch of a part with its added columns."""
        added = self._columns.added(part.batch.schema.names)
        return joined(part.batch, self._columns.batch(part.whole(), added))

    def _table(self, parts: Iterable[Part[Cell]], added: Any) -> Any:
        """The added columns of all parts."""
        batches = [self._columns.batch(part.whole(), added) for part in parts]
        return arrow().Table.from_batches(batches, added)


def _schema(given: Any) -> Any:
    pa = arrow()
    if isinstance(given, pa.Schema):
        return given
    if hasattr(given, "__arrow_c_schema__"):
        return pa.schema(given)
    return getattr(given, "schema", None) if isinstance(given, pa.Table) else whole_of(given).schema
