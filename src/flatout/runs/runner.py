"""The runner: a file of prompts in, one answer or named error each, in a run file that nothing can lose.

A row is reported (counted, written to the output) only after the commit that holds it. Running the same command again
goes on; a run file that belongs to other rows is refused before anything is sent.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from flatout.client import Client
from flatout.durable import content, fingerprint, item_of
from flatout.edge import fan_out
from flatout.errors import RunMismatch
from flatout.layer import Journey
from flatout.store import RunFile
from flatout.values import Call

from .check import Checked, check
from .export import export
from .progress import Progress
from .read import Input, Row, open_input
from .recipe import Recipe
from .tally import Tally
from .write import check_output

GRACE = 30.0
"""Seconds that calls in flight get to finish after an interrupt."""


class RunOptions(Struct, frozen=True, kw_only=True):
    """What to run.

    Args:
        source: the input file; ``-`` is standard input.
        output: the output file, its format named by its suffix; None or ``-`` writes JSONL to standard output.
        run_file: where the run is kept; by default the output's name with ``.flatout`` behind it.
        format: the input's format, where its name does not tell.
        encoding: the input's text encoding.
        prompt, system: templates.
        params: parameters of every call, by a Call's names.
        model: the model of every call.
        limit: take the first so many rows alone.
        fresh: move an existing run file aside and start over.
        retry_failed: ask again for rows that failed.
        neutralise: see `flatout.runs.write.write`.
        command: the command line, kept in the run file and shown for going on.
    """

    source: str
    output: str | None = None
    run_file: str | None = None
    format: str | None = None
    encoding: str = "utf-8"
    prompt: str | None = None
    system: str | None = None
    params: Mapping[str, Any] = {}
    model: str | None = None
    limit: int | None = None
    fresh: bool = False
    retry_failed: bool = False
    keep_prompts: bool = True
    neutralise: bool = False
    command: str | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        interrupted: whether it was stopped before its end.
        unfinished: rows without a result; None when the input's length is not known.
        run_file: where the run is kept.
        output: what was written; None for standard output.
        kept: whether the run file is still there.
    """

    interrupted: bool
    unfinished: int | None
    run_file: str
    output: str | None
    kept: bool


class _Work(Struct, frozen=True):
    """One row that is to be asked."""

    index: int
    row: Row
    call: Call
    made: bytes


class Runner:
    """Runs one job. `prepare` first, then `run`; `stop` at any time in between.

    Args:
        options: what to run.
        make_client: makes the client; called by `prepare`, so that a missing key is found before the input is read.

    Attributes:
        progress: the counters; see `refresh`.
        run_file: where the run is kept.
    """

    def __init__(self, options: RunOptions, make_client: Callable[[], Client]) -> None:
        self.options = options
        self.progress = Progress()
        self._make_client = make_client
        self._output = None if options.output in (None, "-") else options.output
        self._temporary: Path | None = None
        self.run_file = self._place()
        self._recipe = Recipe(prompt=options.prompt, system=options.system, params=options.params, model=options.model)
        self._under_way: dict[int, tuple[asyncio.Task[None], Journey]] = {}
        self._stops = 0
        self._client: Client | None = None
        self._input: Input | None = None
        self._checked = Checked(None)
        self._store: RunFile | None = None
        self._tally: Tally | None = None

    def prepare(self) -> None:
        """Find everything that is wrong before the first call: options, key, output, every row, the run file.

        Raises:
            ConfigError: an option, the key, the output's place or a row of the input.
            StoreError: the run file cannot be used, or belongs to another job.
        """
        options = self.options
        check_output(options.output or "-", source=options.source)
        self._client = self._make_client()
        self._input = open_input(options.source, format=options.format, encoding=options.encoding)
        self._checked = check(self._input, self._recipe, limit=options.limit)
        self.progress.total = self._checked.rows
        self._store = RunFile.open(
            self.run_file,
            job=self._recipe.describe(),
            command=options.command,
            fresh=options.fresh,
            keep_prompts=options.keep_prompts,
        )
        try:
            self._store.set_total(self._checked.rows)
            if self._input.repeatable:
                self._verify(self._input, self._store)
        except BaseException:
            self._store.close_now()
            raise

    async def run(self) -> Outcome:
        """Ask every row that has no answer yet, and write the output.

        Raises:
            StoreError: the run file cannot be written any more. What was reported is in it.
        """
        assert self._client is not None
        assert self._store is not None
        store = self._store
        loop = asyncio.get_running_loop()
        self.progress.started = loop.time()
        async with self._client as client:
            self._tally = Tally(self.progress, client)
            try:
                async with aclosing(fan_out(self._pending(), self._ask, client.window)) as outcomes:
                    async for _ in outcomes:
                        pass
                self.refresh()
            finally:
                store.mark("interrupted" if self._stops or self._left() else "finished")
                await store.close()
        return self._finish()

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        if self._tally is not None:
            self._tally.refresh()

    def stop(self) -> None:
        """Stop: at first no call is started any more, and those in flight finish (30 s at most); then they are cancelled.

        Call it in the event loop.
        """
        self._stops += 1
        for task, trip in self._under_way.values():
            if self._stops > 1 or trip.attempts == 0:
                task.cancel()
        if self._stops == 1:
            asyncio.get_running_loop().call_later(GRACE, self.stop)

    def _place(self) -> Path:
        options = self.options
        if options.run_file is not None:
            return Path(options.run_file)
        if self._output is not None:
            return Path(self._output + ".flatout")
        if options.source != "-":
            return Path(Path(options.source).name + ".flatout")
        self._temporary = Path(tempfile.mkdtemp(prefix="flatout-"))
        return self._temporary / "stdin.flatout"

    def _rows(self, source: Input) -> Iterator[tuple[int, Row]]:
        return enumerate(islice(source, self.options.limit))

    def _work(self, index: int, row: Row) -> _Work:
        call = self._recipe.call(row)
        return _Work(index, row, call, content(call))

    def _verify(self, source: Input, store: RunFile) -> None:
        """Hold every finished row against the input as it is now.

        Raises:
            RunMismatch: one differs; the message names the row, the column and both values.
        """
        finished = store.finished()
        stored = next(finished, None)
        for index, row in self._rows(source):
            if stored is None:
                return
            if stored.index == index:
                self._compare(self._work(index, row), stored.fingerprint)
                stored = next(finished, None)
        if stored is not None and self.options.limit is None:
            raise RunMismatch(
                f"{self.run_file} has a result for row {stored.index + 1}, but {source.name} has only "
                f"{self.progress.total} rows now; use --fresh to start over"
            )

    def _compare(self, work: _Work, stored: bytes) -> None:
        if fingerprint(work.made) != stored:
            assert self._store is not None
            raise RunMismatch(_difference(self.run_file, work, self._store))

    def _pending(self) -> Iterator[_Work]:
        """The rows that are to be asked: those without a result, and those whose failure may be tried again."""
        assert self._input is not None
        assert self._store is not None
        again = {"unsent", "failed"} if self.options.retry_failed else {"unsent"}
        finished = self._store.finished()
        stored = next(finished, None)
        for index, row in self._rows(self._input):
            if self._stops:
                return
            if stored is not None and stored.index == index:
                known, stored = stored, next(finished, None)
                if known.state not in again:
                    self.progress.resumed += 1
                    continue
            yield self._work(index, row)

    async def _ask(self, _: int, work: _Work) -> None:
        assert self._client is not None
        assert self._store is not None
        task = asyncio.current_task()
        assert task is not None
        trip = Journey(asyncio.get_running_loop().time())
        self._under_way[work.index] = (task, trip)
        try:
            result = await self._client.result(work.call, index=work.index, trip=trip)
        except asyncio.CancelledError:
            if self._stops:
                return
            raise
        finally:
            del self._under_way[work.index]
        row = msgspec.json.encode(work.row.columns)
        await self._store.finish(item_of(result, made=work.made, row=row, keep_prompts=self.options.keep_prompts))
        assert self._tally is not None
        self._tally.finished(result, work.index)

    def _left(self) -> int | None:
        total = self.progress.total
        return None if total is None else max(0, total - self.progress.finished)

    def _finish(self) -> Outcome:
        left = self._left()
        if self._stops and self._temporary is None:
            return Outcome(
                interrupted=True, unfinished=left, run_file=str(self.run_file), output=self._output, kept=True
            )
        export(
            self.run_file,
            self.options.output or "-",
            columns=self._checked.columns,
            rows=self.options.limit,
            neutralise=self.options.neutralise,
        )
        if self._temporary is not None and not self._stops:
            shutil.rmtree(self._temporary, ignore_errors=True)
        return Outcome(
            interrupted=bool(self._stops),
            unfinished=left,
            run_file=str(self.run_file),
            output=self._output,
            kept=self._temporary is None or bool(self._stops),
        )


def _difference(run_file: Path, work: _Work, store: RunFile) -> str:
    """The first difference between a row and what the run file holds of it, in a sentence."""
    end = "; use --fresh to start over"
    item = store.item(work.index)
    if item is None or item.prompt is None:
        return f"{run_file} belongs to another job: {work.row.at} has changed{end}"
    for where, old_json, new in (
        ("column", item.input, work.row.columns),
        ("parameter", item.prompt, msgspec.json.decode(work.made)),
    ):
        old = msgspec.json.decode(old_json) if old_json is not None else {}
        for name in [*new, *(name for name in old if name not in new)]:
            if old.get(name) != new.get(name):
                values = f"was {_short(old.get(name))}, is now {_short(new.get(name))}"
                return f"{run_file} belongs to another job: {work.row.at}, {where} {name}: {values}{end}"
    return f"{run_file} belongs to another job: {work.row.at} has changed{end}"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}…"
