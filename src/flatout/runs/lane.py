"""Refuses what a lane cannot do, in a sentence, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from flatout.client import Client, engine_of
from flatout.errors import ConfigError
from flatout.lanes import refusals
from flatout.values import Call

from .job import RunOptions
from .output.formats import is_stream

if TYPE_CHECKING:
    from flatout.store import RunFile, RunReader
    from flatout.store.ledger import Batch, LedgerReader

    from .work import Work


def check_options(options: RunOptions) -> None:
    """Refuse options that the lane cannot keep.

    Raises:
        ConfigError: the message names the option.
    """
    refusals.check_within(options.lane, options.within, refusals.COMMAND)
    if options.lane in ("live", "flex"):
        for option, given in (("--detach", options.detach), ("--keep-files", options.keep_files)):
            if given:
                way_out = "add" if options.lane == "live" else "take"
                raise ConfigError(f"{option} is for batches: {way_out} --lane batch")
    if options.lane == "live":
        return
    if options.lane == "flex":
        if options.within is not None and options.source == "-":
            raise ConfigError("--within has to know how many rows there are: save the input to a file first")
        return
    if options.source == "-":
        raise ConfigError("batches read their input again when results are there: save it to a file first")
    if options.run_file is None and (options.output is None or is_stream(options.output)):
        raise ConfigError("batches need a place that they find again: name the file for the answers with -o")
    if options.workers > 1:
        raise ConfigError("--workers has no effect on batches, whose rows the provider asks: leave it out")


def check_client(options: RunOptions, client: Client) -> None:
    """Refuse options of the client that the lane cannot keep.

    Raises:
        ConfigError: the message names the option.
    """
    if options.lane not in ("live", "flex"):
        refusals.check_engine(engine_of(client), refusals.COMMAND)


def check_call(options: RunOptions, client: Client, call: Call) -> None:
    """Refuse a call that cannot go to its lane.

    Raises:
        ConfigError: its model has no such lane; the message names the lanes that it has.
    """
    if options.lane == "live":
        return
    refusals.check_model(options.lane, engine_of(client), call.model or client.model)
    if options.lane == "flex":
        if call.service_tier is not None:
            raise ConfigError(f"the flex lane chooses the service: leave service_tier={call.service_tier} out")
        return
    refusals.check_tier(call)


def check_time(options: RunOptions, client: Client, rows: int | None, works: Callable[[], Iterator[Work]]) -> None:
    """Refuse a time in which no lane can answer the rows of a new run.

    Args:
        options: the run's.
        client: the client.
        rows: how many rows there are; None if nobody knows.
        works: reads them.

    Raises:
        ConfigError: the message says which lane needs how long.
    """
    if options.within is None:
        return
    from flatout.lanes.within import SAMPLE, check_time, ways

    engine_of(client).stack.prices.load_now()
    calls = [work.call for work in islice(works(), SAMPLE)]
    check_time(options.lane, ways(engine_of(client), options.model, rows or 0, calls), options.within, refusals.COMMAND)


def check_ledger(options: RunOptions, client: Client, store: RunFile, name: str) -> None:
    """Refuse to ask rows that stand in batches, and batches that this client cannot collect.

    Raises:
        ConfigError: the message names the batches.
    """
    under_way = _under_way(store.ledger)
    if not under_way:
        return
    if options.lane in ("live", "flex"):
        rows = sum(batch.rows for batch in under_way)
        raise ConfigError(
            f"{rows:,} rows of {name} stand in batches: collect them with --lane batch, or cancel them with "
            f"flatout batch cancel {name}"
        )
    from flatout.lanes.batch.targets import other_key, target_named

    for batch in under_way:
        if target_named(engine_of(client), batch.target).key != batch.key:
            raise ConfigError(other_key(name, batch.number, batch.target))


def check_fresh(reader: RunReader, name: str) -> None:
    """Refuse to start over while a provider has batches of a run: their rows would be paid for twice.

    Raises:
        ConfigError: the message says how to end them.
    """
    under_way = _under_way(reader.ledger) if reader.ledger is not None else []
    if under_way:
        rows = sum(batch.rows for batch in under_way)
        raise ConfigError(
            f"{rows:,} rows of {name} stand in batches, and --fresh would pay for them again: collect them without "
            f"--fresh, or cancel them with flatout batch cancel {name}"
        )


def _under_way(ledger: LedgerReader) -> list[Batch]:
    """The batches that a provider has, or may have."""
    return [batch for batch in ledger.batches() if batch.state in ("intended", "open")]
