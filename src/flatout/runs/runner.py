"""The runner turns a file of prompts into one answer or named error each, kept in a run file that survives a crash.

A row is reported (counted, written to the output) only after it is committed. Running the same command again resumes
the run. If the run file belongs to other rows, the runner refuses it before it sends anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import to_builtins
from msgspec.structs import replace

from flatout.client import Client
from flatout.durable.run import AHEAD_WHOLE, Stored
from flatout.errors import ConfigError, StoreError
from flatout.store import Finished, ItemState, RunFile, RunReader, RunState, remove
from flatout.tasks.closing import close_all
from flatout.values import Call

from .alone import Alone, Heard
from .client_options import ClientOptions
from .input.arrivals import Arrivals
from .input.check import Findings, check, check_row
from .input.read import Input, open_input
from .input.rows import Row
from .input.variants import Variants
from .input.verify import Revision, Verification, compare
from .job import BUDGET, RunEnd, RunOptions
from .output.claim import OUTPUTS, SOURCE, Claim, where
from .output.export import TYPES, OwnRow, export
from .output.place import prune, run_file_of
from .output.write import check_output, is_stream
from .prompts.recipe import Recipe
from .story.progress import PROMPT_CACHE, Progress
from .work import Work, own_rows

if TYPE_CHECKING:
    from .workers.team import Team

_log = logging.getLogger("flatout")

FORECAST = "forecast"
"""The fact in the run file that holds its plan's forecast."""

_BATCH = 100  # rows that are read from the input in one go


class Runner:
    """Runs one job. Call `prepare` first, then `run`; `stop` may come at any time.

    Args:
        options: what to run.
        make_client: makes the client. `prepare` calls it first, so a missing key is found before the input is read.
        warn: receives problems beside the run, such as a collector that accepts no data.
        made_with: what ``make_client`` makes it with, for the clients of several workers.

    Attributes:
        progress: the counters; see `refresh`.
        run_file: the file that holds the run.
        moved: where ``fresh`` moved the previous run; None if there was none.
        recipe: how a row becomes a call.
    """

    def __init__(
        self,
        options: RunOptions,
        make_client: Callable[[], Client],
        warn: Callable[[str], None] = _log.warning,
        made_with: ClientOptions | None = None,
    ) -> None:
        self.options = options
        self.progress = Progress()
        self._make_client = make_client
        self._made_with = made_with
        self._warn = warn
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
        self._stops = 0
        self._asks: Alone | Team | None = None
        self._again = {"unsent", "failed"} if options.retry_failed else {"unsent"}
        self._nothing_left = False
        self._outdated = False
        self._client: Client | None = None
        self._input: Input | None = None
        self._pipe: Arrivals[tuple[int, Row]] | None = None
        self._checked = Findings(None)
        self._store: RunFile | None = None
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

    @asynccontextmanager
    async def open_for_sample(self) -> AsyncIterator[None]:
        """A block in which `sample` may be used, instead of `run`. The run will continue from there."""
        self.progress.started = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            await close_all(partial(self.store.mark, "interrupted"), self.store.close)

    async def sample(self, works: AsyncIterator[Work], heard: Heard) -> None:
        """Ask some rows, and keep their results. This closes the client.

        Args:
            works: the rows.
            heard: hears of each row that is over: its result, or None if it was dropped.

        Raises:
            StoreError: as for `run`.
        """
        alone = self._asks = Alone(self.client, self.store, self.options, self.progress, self._warn, heard)
        await alone.ask(works)

    async def run(self) -> RunEnd:
        """Ask every row that has no answer yet, and write the output.

        Raises:
            StoreError: the run file can no longer be written. It holds everything that was reported.
        """
        assert self._client is not None
        assert self._store is not None
        store = self._store
        self.progress.started = asyncio.get_running_loop().time()
        try:
            try:
                self._asks = self._asking(self._client, store)
                await self._asks.ask(self._pending())
                self.refresh()
                store.set_fact(BUDGET, self.progress.budget)
                outcome = await asyncio.to_thread(self._finish)
            finally:
                state: RunState = "finished" if self._left() == 0 else "interrupted"
                self._note_prompt_cache(store)
                await close_all(partial(store.mark, state), store.close)
        except BaseException:
            if not self.sent:
                await asyncio.to_thread(self._discard)
            raise
        return outcome

    def _note_prompt_cache(self, store: RunFile) -> None:
        """Add what this process took from the providers' prompt caches to what the run file knows of earlier ones."""
        if use := self.progress.prompt_cache:
            store.set_fact(PROMPT_CACHE, to_builtins(self.progress.earlier.prompt_cache + use))

    @property
    def sent(self) -> int:
        """How many attempts this process has sent, or its workers."""
        return self._asks.sent if self._asks is not None else 0

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

    def _asking(self, client: Client, store: RunFile) -> Alone | Team:
        """Who asks the rows: this process, or several."""
        if self.options.workers == 1:
            return Alone(client, store, self.options, self.progress, self._warn, self._watch(client, store))
        from .workers.assembly import team_for  # loaded for those who want it

        assert self._made_with is not None
        return team_for(self.options, self._made_with, client, store, self.progress, str(self.run_file))

    def _watch(self, client: Client, store: RunFile) -> Heard | None:
        """What compares the run with its plan; None if it was not planned."""
        if (fact := store.fact(FORECAST)) is None:
            return None
        from .plan.forecast import Watch

        loop, progress = asyncio.get_running_loop(), self.progress
        watch = Watch.of(fact, client.model, lambda: loop.time() - progress.started, self._warn)
        return None if watch is None else watch.heard

    def refresh(self) -> None:
        """Bring the live values of `progress` up to date."""
        if self._asks is not None and self._client is not None:
            self._asks.refresh()
            self.progress.budget = self._client.purse.standing()

    def stop(self) -> None:
        """Stop the run. Call it in the event loop.

        Attempts in flight may finish, but no new one starts. After 30 s, or at the second call, everything in flight is
        cancelled. Rows without an answer are left for the next run.
        """
        self._stops += 1
        if self._pipe is not None:
            self._pipe.close()
        if self._asks is not None:
            self._asks.stop()

    def _begin(self) -> tuple[Input, Client]:
        """Check the options, make the client and open the input."""
        options = self.options
        self._claim = Claim.of(self.run_file, source=where(options.source), overwrite=options.overwrite)
        check_output(options.output or "-", claim=self._claim)
        if not options.same_prompt:
            self.recipe.check_varies()
        self._client = self._make_client()
        source = open_input(options.source, format=options.format, encoding=options.encoding)
        self._input = self.recipe.variants.of(source)
        return self._input, self._client

    def _accept(self, call: Call) -> None:
        """Refuse a call that cannot be made."""
        assert self._client is not None
        self._client.check(call)
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
            rows = options.keep_prompts
            verification = Verification(store, str(self.run_file), self.recipe, self._again, rows=rows)
        self._checked = check(source, self.recipe, limit=self._limit, accept=self._accept, verify=verification)
        total = self.progress.total = self._checked.rows
        if verification is not None:
            verification.conclude(source.name, total if options.limit is None else None)
            self._outdated = verification.outdated
            self._nothing_left = verification.kept == total and not verification.outdated
        else:
            # Only now, so that an unusable input neither creates a file nor moves one aside.
            self._open_new_store(source)
        assert self._store is not None
        self._store.set_total(total)
        self._store.set_fact(TYPES, source.types if options.keep_prompts else None)
        self._store.set_fact(SOURCE, self._claim.source)
        self._store.set_fact(OUTPUTS, self._claim.mine)
        self._store.set_fact(BUDGET, client.purse.standing())
        client.go_on(self._store.created_at, self._store.spent_before)

    def _open_new_store(self, source: Input) -> None:
        if not source.repeatable:
            self._pipe = Arrivals(self._checked_first(self._rows(source)))
        if self.options.run_file is None and self._output is None:
            prune(time.time())
        store = self._open_store()
        if source.repeatable and next(store.finished(), None) is not None:
            raise StoreError(f"{self.run_file} was written by another process just now; run the same command again")

    def _open_store(self) -> RunFile:
        options = self.options
        if not options.fresh:
            with suppress(StoreError), RunReader.open(self.run_file) as reader:
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

    def _rows(self, source: Input) -> Iterator[tuple[int, Row]]:
        return enumerate(islice(source, self._limit))

    def _own_rows(self) -> Iterator[OwnRow]:
        """The input's rows, read once more for a run file that does not hold them."""
        assert self._input is not None
        return own_rows(self._rows(self._input), self.recipe)

    def _work(self, index: int, row: Row) -> Work:
        return Work.of(index, row, self.recipe)

    async def _pending(self) -> AsyncIterator[Work]:
        """The rows to ask: those without a result, and those whose failure may be retried."""
        assert self._input is not None
        assert self._store is not None
        if self._nothing_left:  # do not read a million finished rows once more
            self.progress.resumed = self.progress.total or 0
            return
        name = str(self.run_file)
        revision = Revision(self._store) if self.options.keep_prompts and (self._outdated or self._pipe) else None
        finished = Stored(self._store.finished(rows=revision is not None), AHEAD_WHOLE)
        index = -1
        async for index, row in self._arriving(self._input):
            if self._stops:
                return
            if finished.must_read:
                await finished.read_ahead()
            if (known := finished.take(index)) is not None:
                if self._pipe is not None:
                    compare(self._store, name, row, self._work(index, row).made, known)
                if known.state not in self._again:
                    if revision is not None:
                        await revision.see(row, known)
                    self.progress.resumed += 1
                    continue
            yield self._work(index, row)
        if revision is not None:
            await revision.write()
        if self._pipe is not None and not self._stops:
            self.progress.total = index + 1
            self._store.set_total(index + 1)
            if self.options.limit is None:
                await finished.read_ahead()
                finished.check_nothing_left(name, index + 1, f"{self._input.name} has only")

    async def _arriving(self, source: Input) -> AsyncIterator[tuple[int, Row]]:
        if self._pipe is not None:
            async for pair in self._pipe:
                yield pair
            return
        rows = self._rows(source)
        while some := await asyncio.to_thread(lambda: list(islice(rows, _BATCH))):
            for pair in some:
                yield pair

    def _left(self) -> int | None:
        total = self.progress.total
        return None if total is None else max(0, total - self.progress.finished)

    def _finish(self) -> RunEnd:
        assert self._input is not None
        assert self._store is not None
        left = self._left()
        interrupted = self._stops > 0 and left != 0
        if not interrupted or self.options.passes:  # rows from a pipe cannot be read again
            own = self._own_rows if not self.options.keep_prompts and self._pipe is None else None
            export(
                self.run_file,
                self.options.output or "-",
                columns=self._checked.columns if own is not None or self.options.keep_prompts else None,
                rows=self._limit,
                at_least=self.progress.finished,
                own=own,
                types=self._input.types,
                neutralise=self.options.neutralise,
                claim=replace(self._claim, note=partial(self._store.set_fact, OUTPUTS)),
            )
        return RunEnd(interrupted=interrupted, unfinished=left, run_file=str(self.run_file), output=self._output)
