"""Opens a job: checks its options, makes its client, and reads its input against its run file, before any call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from msgspec import ValidationError, convert, to_builtins

from flatout.client import Client
from flatout.errors import ConfigError, StoreError
from flatout.lending import Debt
from flatout.progress._counters import Progress
from flatout.store import Finished, ItemState, RunFile, RunReader, RunState, remove
from flatout.store.ledger import LANE
from flatout.values import Call

from . import lane
from .input.arrivals import Arrivals
from .input.begun import Input
from .input.check import Findings, check, check_row
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
        run_file: the file that holds the run.
        moved: where ``fresh`` moved the previous run; None if there was none.
        recipe: how a row becomes a call.
    """

    def __init__(self, options: RunOptions, make_client: Callable[[], Client]) -> None:
        self.options = options
        self.progress = Progress()
        self._make_client = make_client
        self._output = None if options.output is None or is_stream(options.output) else options.output
        self.moved: Path | None = None
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
        self._claim = Claim()
        self._limit = options.limit and options.limit * variants.count
        self._beyond = 0  # rows beyond the limit that earlier commands finished; they stay in the output
        self._again: set[ItemState] = {"unsent", "failed"} if options.retry_failed else {"unsent"}
        self._nothing_left = False
        self._outdated = False
        self._client: Client | None = None
        self._input: Input | None = None
        self._pipe: Arrivals[tuple[int, Row]] | None = None
        self._checked = Findings(None)
        self._store: RunFile | None = None
        self._is_new = False
        self._state_before: RunState = "interrupted"  # the state that the run file had before this process

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
                self._store.mark(self._state_before)
                self._store.close_now()
            self._discard()
            raise

    def look(self) -> None:
        """Find every error of options, key and input as `prepare` does, without touching the run file.

        Raises:
            ConfigError: as for `prepare`.
        """
        source, _ = self._begin()
        self._checked = check(source, self.recipe, limit=self._limit, accept=self._accept)
        self.progress.total = self._checked.rows

    def works(self) -> Iterator[Work]:
        """All rows of the input, read once more.

        Raises:
            ConfigError: the input can be read only once.
        """
        assert self._input is not None
        if not self._input.repeatable:
            raise ConfigError(f"{self._input.name} can be read only once: save it to a file first")
        return (self._work(index, row) for index, row in self._rows(self._input))

    def finished(self) -> Iterator[Finished]:
        """The rows of the run file that will not be asked again."""
        if self._store is not None:
            found = self._store.finished()
        elif self.options.fresh or not self.run_file.exists():
            return iter(())
        else:
            found = RunReader.open(self.run_file).finished()
        return (each for each in found if each.state not in self._again)

    def asks_again(self, state: ItemState) -> bool:
        """Whether a row that ended so is asked once more."""
        return state in self._again

    @property
    def client(self) -> Client:
        """The client, after `prepare` or `look`."""
        assert self._client is not None
        return self._client

    @property
    def store(self) -> RunFile:
        """The run file, after `prepare`."""
        assert self._store is not None
        return self._store

    def destinations(self) -> list[str]:
        """The models that rows go to unless they name one, each with its host where the name alone does not tell it."""
        assert self._client is not None
        by_host: dict[str, list[str]] = {}
        for model in filter(None, self.options.models or [self.options.model or self._client.model or ""]):
            by_host.setdefault(self._client.host(model), []).append(model)
        return [" and ".join(models) + (f" at {host}" if host else "") for host, models in by_host.items()]

    def _begin(self) -> tuple[Input, Client]:
        """Check the options, make the client and open the input."""
        options = self.options
        lane.check_options(options)
        self._claim = Claim.of(
            self.run_file,
            source=where(options.source),
            overwrite=options.overwrite,
            rereads=not options.keep_prompts,
        )
        check_output(options.output or "-", claim=self._claim)
        if not options.same_prompt:
            self.recipe.check_varies()
        self._client = self._make_client()
        lane.check_client(options, self._client)
        self._client.engine.check_place()  # first, so that the first row is not blamed
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
        if self.options.workers > 1 and self._client.embeds(call.model):
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
            store = self._open_store()
            keeps = options.keep_prompts
            verification = Verification(store, str(self.run_file), self.recipe, self._again, rows=keeps)
        self._checked = check(source, self.recipe, limit=self._limit, accept=self._accept, verify=verification)
        rows = self._checked.rows
        if verification is not None:
            verification.conclude(source.name, None if rows == self._limit else rows)
            self._outdated = verification.outdated
            self._nothing_left = verification.kept == rows and not verification.outdated
        else:
            # Only now, so that what is refused neither creates a file nor moves one aside.
            lane.check_time(options, client, rows, self.works)
            self._open_new_store(source)
        assert self._store is not None
        lane.check_ledger(options, client, self._store, str(self.run_file))
        if self._limit is not None:
            self._beyond = self._store.ended_from(self._limit)
        self.progress.total = None if rows is None else rows + self._beyond
        self._store.set_total(self.progress.total)
        self._store.set_command(options.to_continue(str(self.run_file)))  # only now: the rows are those of the run
        self._store.set_fact(TYPES, source.types if options.keep_prompts else None)
        self._store.set_fact(WORKERS, options.workers)
        self._store.set_fact(SOURCE, self._claim.source)
        self._store.set_fact(OUTPUTS, self._claim.mine)
        if options.lane != "auto":  # else it is not chosen yet
            self._store.set_fact(LANE, options.lane)
        self._settle_budget(client, self._store)

    @staticmethod
    def _settle_budget(client: Client, store: RunFile) -> None:
        """Count what was spent on the run before. A process that was killed still holds what it had borrowed."""
        purse, spent = client.purse, store.spent_before
        with suppress(ValidationError):
            if (debt := convert(store.fact(DEBT), Debt | None)) is not None:
                purse.take_back(debt, spent + _set_aside(store))
        store.set_fact(DEBT, to_builtins(purse.loan(spent)))
        store.set_fact(BUDGET, purse.standing())
        client.go_on(store.created_at, spent, answered=store.answered_before)

    def _open_new_store(self, source: Input) -> None:
        if not source.repeatable:
            self._pipe = Arrivals(self._checked_first(self._rows(source)))
        if self.options.run_file is None and self._output is None:
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
                self._state_before = reader.info().state
        assert self._client is not None
        server = self._client.servers(self.recipe.variants.models or (self.recipe.model and [self.recipe.model]))
        self._store = RunFile.open(
            self.run_file,
            job={**self.recipe.describe(), "server": server},
            command=options.to_continue(str(self.run_file)),
            fresh=options.fresh,
            keep_prompts=options.keep_prompts,
        )
        moved = self._store.moved
        self.moved = moved and self.run_file.with_name(moved.name)  # as the user would write it
        return self._store

    def _discard(self) -> None:
        """Remove the run file of a pipe that produced nothing. The next run of the pipe uses another file."""
        if self.options.passes:
            remove(self.run_file)

    def discard_new(self) -> None:
        """Remove the run file, once it is closed, if this process made it: it holds nothing that is worth keeping."""
        if self._is_new:
            remove(self.run_file)

    def _rows(self, source: Input) -> Iterator[tuple[int, Row]]:
        return enumerate(islice(source, self._limit))

    def _work(self, index: int, row: Row) -> Work:
        return Work.of(index, row, self.recipe)


def _set_aside(store: RunFile) -> float:
    """US dollars that a killed process had set aside for batches, which go on without it."""
    from flatout.store.ledger import MONEY

    if (fact := store.fact(MONEY)) is None:
        return 0.0
    from flatout.lanes.batch.money import Record  # loaded for those who want it

    return sum(Record.of(fact).held(store.ledger.counts()).values())
