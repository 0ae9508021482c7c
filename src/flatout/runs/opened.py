"""Opens a job: checks its options, makes its client, and reads its input against its run file, before any call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert, to_builtins

from flatout.caches import CACHE, lasting_name
from flatout.client import Client, engine_of
from flatout.errors import ConfigError, StoreError
from flatout.money.lending import Debt
from flatout.progress._counters import Progress
from flatout.store import Finished, ItemState, RunFile, RunReader, RunState, remove
from flatout.store.ledger import LANE
from flatout.values import Call

from . import lane
from .input.arrivals import Arrivals
from .input.begun import Input
from .input.check import Findings, check, check_row
from .input.names import is_elsewhere, shown
from .input.read import open_input
from .input.rows import Row
from .input.variants import Variants
from .input.verify import Verification
from .job import BUDGET, DEBT, WORKERS, RunOptions
from .output.claim import OUTPUTS, SOURCE, Claim, where
from .output.export import TYPES
from .output.formats import form_of, is_stream
from .output.place import prune, run_file_of
from .output.write import check_output
from .prompts.recipe import Recipe
from .work import Work


class Opened:
    """A job that is open: its input, its client and its run file.

    Args:
        options: what to run.
        make_client: makes the client. `prepare` calls it first, so a missing key is found before the input is read.

    Attributes:
        options: see above.
        progress: the counters of the run.
        recipe: how a row becomes a call.
        run_file: the file that holds the run.
        moved: where ``fresh`` moved the previous run; None if there was none.
        state_before: the state that the run file had before this process.
        output: the file for the answers; None for the terminal or a pipe.
        claim: what this run reads and writes, which other runs must not.
        limit: how many rows are asked, variants included; None for all.
        beyond: rows beyond the limit that earlier commands finished; they stay in the output.
        again: the states in which rows are asked once more.
        checked: what was found in the input.
        pipe: the rows of an input that can be read only once; None if it can be read again.
        nothing_left: whether all rows are finished.
        outdated: whether the run file has other columns beside its rows than the input has now.
    """

    def __init__(self, options: RunOptions, make_client: Callable[[], Client]) -> None:
        self.options = options
        self.progress = Progress()
        variants = Variants(models=options.models, samples=options.samples)
        self.recipe = Recipe(
            prompt=options.prompt,
            system=options.system,
            images=options.images,
            params=options.params,
            model=options.model,
            variants=variants,
            nulls=options.nulls,
        )
        self.run_file = run_file_of(options.source, options.output, options.run_file, self.recipe.describe())
        self.moved: Path | None = None
        self.state_before: RunState = "interrupted"
        self.output = None if options.output is None or is_stream(options.output) else shown(options.output)
        self.claim = Claim()
        self.limit = options.limit and options.limit * variants.count
        self.beyond = 0
        self.again: set[ItemState] = {"unsent", "failed"} if options.retry_failed else {"unsent"}
        self.checked = Findings(None)
        self.pipe: Arrivals[tuple[int, Row]] | None = None
        self.nothing_left = False
        self.outdated = False
        self._make_client = make_client
        self._client: Client | None = None
        self._input: Input | None = None
        self._store: RunFile | None = None
        self._is_new = False

    def prepare(self) -> None:
        """Find every error before the first call: options, key, output, every row, the run file.

        If the input can be read only once (stdin), only its first row is checked.

        Raises:
            ConfigError: an option, the key, the output's place or a row of the input is wrong.
            StoreError: the run file cannot be used, or belongs to another job.
        """
        source, client = self._begin()
        try:
            self._check_input(source, client)
        except BaseException:
            if self._store is not None:
                self._store.mark(self.state_before)
                self._store.close_now()
            self.discard()
            raise

    def look(self) -> None:
        """Find every error as `prepare` does, without changing the run file.

        Raises:
            ConfigError: as for `prepare`.
            StoreError: the run file cannot be read, or belongs to another job.
        """
        source, client = self._begin()
        with ExitStack() as stack:
            verification = None
            if source.repeatable and not self.options.fresh and self.run_file.exists():
                reader = stack.enter_context(RunReader.open(self.run_file))
                reader.check_job(self._described(client))
                verification = self._verification(reader)
            self._check_rows(source, verification)
        self.progress.total = self.checked.rows

    def works(self) -> Iterator[Work]:
        """All rows of the input, read once more.

        Raises:
            ConfigError: the input can be read only once.
        """
        if not self.input.repeatable:
            raise ConfigError(f"{self.input.name} can be read only once: save it to a file first")
        return (self.work(index, row) for index, row in self.rows())

    def finished(self) -> Iterator[Finished]:
        """The rows of the run file that will not be asked again."""
        if self._store is not None:
            found = self._store.finished()
        elif self.options.fresh or not self.run_file.exists():
            return iter(())
        else:
            found = RunReader.open(self.run_file).finished()
        return (each for each in found if each.state not in self.again)

    def asks_again(self, state: ItemState) -> bool:
        """Whether a row that ended so is asked once more."""
        return state in self.again

    @property
    def client(self) -> Client:
        """The client, after `prepare` or `look`."""
        assert self._client is not None
        return self._client

    @property
    def input(self) -> Input:
        """The input, after `prepare` or `look`."""
        assert self._input is not None
        return self._input

    @property
    def store(self) -> RunFile:
        """The run file, after `prepare`."""
        assert self._store is not None
        return self._store

    @property
    def left(self) -> int | None:
        """How many rows are not over; None if nobody knows how many there are."""
        total = self.progress.total
        return None if total is None else max(0, total - self.progress.finished)

    def destinations(self) -> list[str]:
        """The models that rows go to unless they name one, each with its host where the name alone does not tell it."""
        by_host: dict[str, list[str]] = {}
        for model in filter(None, self.options.models or [self.options.model or self.client.model or ""]):
            by_host.setdefault(self.client.host(model), []).append(model)
        return [" and ".join(models) + (f" at {host}" if host else "") for host, models in by_host.items()]

    def _begin(self) -> tuple[Input, Client]:
        """Check the options, make the client and open the input."""
        options = self.options
        lane.check_options(options)
        self.claim = Claim.of(
            self.run_file,
            source=where(options.source),
            overwrite=options.overwrite,
            rereads=not options.keep_prompts,
        )
        check_output(options.output or "-", claim=self.claim)
        if not options.same_prompt:
            self.recipe.check_varies()
        self._client = self._make_client()
        lane.check_client(options, self._client)
        engine_of(self._client).check_shared(options.models)  # first, so that the first row is not blamed
        source = open_input(
            options.source,
            format=options.format,
            encoding=options.encoding,
            delimiter=options.delimiter,
            delimits_output=form_of(options.output or "-").format == "csv",
        )
        self._input = self.recipe.variants.of(source)
        return self._input, self._client

    def _accept(self, call: Call) -> None:
        """Refuse a call that cannot be made."""
        assert self._client is not None
        self._client.check(call)
        lane.check_call(self.options, self._client, call)
        if self.options.workers > 1 and engine_of(self._client).targets.needs_local(call.model):
            raise ConfigError("the embedded model computes in processes of its own: leave --workers out")

    def _checked_first(self, rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        """The rows of a pipe. All variants of its first row are checked before the first call, for all of them."""
        first = list(islice(rows, self.recipe.variants.count))
        for _, row in first:
            check_row(row, self.recipe, self._accept)
        return chain(first, rows)

    def _check_input(self, source: Input, client: Client) -> None:
        """Open the run file and read the input once, checking each row and comparing it with the file."""
        options = self.options
        verification = None
        if source.repeatable and not options.fresh and self.run_file.exists():
            verification = self._verification(self._open_store())
        rows = self._check_rows(source, verification)
        if verification is not None:
            self.outdated = verification.outdated
            self.nothing_left = verification.kept == rows and not verification.outdated
        else:
            # Only now, so that what is refused neither creates a file nor moves one aside.
            lane.check_time(options, client, rows, self.works)
            self._open_new_store(source)
        assert self._store is not None
        lane.check_ledger(options, client, self._store, str(self.run_file))
        if self.limit is not None:
            self.beyond = self._store.ended_from(self.limit)
        self.progress.total = None if rows is None else rows + self.beyond
        self._store.set_total(self.progress.total)
        self._store.set_command(options.to_continue(str(self.run_file)))  # only now: the rows are those of the run
        self._store.set_fact(TYPES, source.types if options.keep_prompts else None)
        self._store.set_fact(WORKERS, options.workers)
        self._store.set_fact(CACHE, lasting_name(engine_of(client).settings.cache))
        self._store.set_fact(SOURCE, self.claim.source)
        self._store.set_fact(OUTPUTS, self.claim.mine)
        if options.lane != "auto":  # else it is not chosen yet
            self._store.set_fact(LANE, options.lane)
        self._settle_budget(client, self._store)

    def _verification(self, store: RunFile | RunReader) -> Verification:
        """Compares the input with the run file."""
        return Verification(store, str(self.run_file), self.recipe, self.again, rows=self.options.keep_prompts)

    def _check_rows(self, source: Input, verification: Verification | None) -> int | None:
        """Read the input once, checking each row; the number of rows, None if nobody knows it yet."""
        self.checked = check(source, self.recipe, limit=self.limit, accept=self._accept, verify=verification)
        rows = self.checked.rows
        if verification is not None:
            verification.conclude(source.name, None if rows == self.limit else rows)
        return rows

    def _described(self, client: Client) -> dict[str, Any]:
        """What makes two answers of this job comparable, for the run file."""
        models = self.recipe.variants.models or (self.recipe.model and [self.recipe.model])
        return {**self.recipe.describe(), "server": engine_of(client).targets.servers(models)}

    @staticmethod
    def _settle_budget(client: Client, store: RunFile) -> None:
        """Count what was spent on the run before. A process that was killed still holds what it had borrowed."""
        engine, spent = engine_of(client), store.spent_before
        purse = engine.stack.purse
        with suppress(ValidationError):
            if (debt := convert(store.fact(DEBT), Debt | None)) is not None:
                purse.take_back(debt, spent + _set_aside(store))
        store.set_fact(DEBT, to_builtins(purse.loan(spent)))
        engine.go_on(store.created_at, spent, answered=store.answered_before)
        store.set_fact(BUDGET, purse.standing())  # a plan, or a run with nothing left to ask, writes no other

    def _open_new_store(self, source: Input) -> None:
        if not source.repeatable:
            self.pipe = Arrivals(self._checked_first(self.rows()))
        if self.options.run_file is None and (self.output is None or is_elsewhere(self.output)):
            prune(time.time())
        store = self._open_store()
        self._is_new = True
        if source.repeatable and next(store.finished(), None) is not None:
            raise StoreError(f"{self.run_file} was written by another process just now; run the same command again")

    def _open_store(self) -> RunFile:
        options = self.options
        with suppress(StoreError), RunReader.open(self.run_file) as reader:
            if options.fresh:
                lane.check_fresh(reader, str(self.run_file))
            else:
                self.state_before = reader.info().state
        assert self._client is not None
        self._store = RunFile.open(
            self.run_file,
            job=self._described(self._client),
            command=options.to_continue(str(self.run_file)),
            fresh=options.fresh,
            keep_prompts=options.keep_prompts,
        )
        moved = self._store.moved
        self.moved = moved and self.run_file.with_name(moved.name)  # as the user would write it
        return self._store

    def discard(self) -> None:
        """Remove the run file of a pipe, which produced nothing. The next run of the pipe uses another file."""
        if self.options.passes:
            remove(self.run_file)

    def discard_new(self) -> None:
        """Remove the run file, once it is closed, if this process made it: it holds nothing that is worth keeping."""
        if self._is_new:
            remove(self.run_file)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The input's rows up to the limit, each with its index."""
        return enumerate(islice(self.input, self.limit))

    def work(self, index: int, row: Row) -> Work:
        """The call of a row."""
        return Work.of(index, row, self.recipe)


def _set_aside(store: RunFile) -> float:
    """US dollars that a killed process had set aside for batches, which go on without it."""
    from flatout.store.ledger import MONEY

    if (fact := store.fact(MONEY)) is None:
        return 0.0
    from flatout.lanes.batch.money import Record  # loaded for those who want it

    return sum(Record.of(fact).held(store.ledger.counts()).values())
