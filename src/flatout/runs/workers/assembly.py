"""Assembles the workers of a run from its options and its client."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flatout.client import Client, engine_of
from flatout.client.change import Change
from flatout.config.file import Config
from flatout.config.folders import cache_folder
from flatout.errors import ConfigError
from flatout.progress._counters import Progress
from flatout.runs.client_options import ClientOptions
from flatout.runs.job import RunOptions
from flatout.store import RunFile
from flatout.store.shared import forget
from flatout.values import Limits
from flatout.values.limits import WORKERS_OF
from flatout.values.secret import conceal

from .calls import as_data
from .outset import Outset
from .team import Team

if TYPE_CHECKING:
    from flatout.lanes.flex import FlexLane
    from flatout.runs.work import Work

_log = logging.getLogger("flatout")


def team_for(
    options: RunOptions,
    made_with: ClientOptions,
    client: Client,
    store: RunFile,
    progress: Progress,
    name: str,
    flex: FlexLane | None = None,
    heard: Callable[[Work, float | None], None] | None = None,
) -> Team:
    """The workers of a run.

    Args:
        options: the run's.
        made_with: what the client was made with.
        client: the parent's client, which makes no calls.
        store: the run file.
        progress: the run's counters.
        name: of the run, as no other has it.
        flex: the flex lane, if the rows go there.
        heard: hears of each row that has a result, and what it cost.

    Raises:
        ConfigError: the run is not one for several processes.
    """
    config, output, level = client.config, as_data(options.params.get("output")), _log.getEffectiveLevel()
    most, slots = options.workers, _own_slots(made_with, config)
    if slots is not None:
        most = min(most, slots)
    name = f"{WORKERS_OF}{Path(name).absolute()}"

    def outset(number: int, window: int) -> Outset:
        otlp = conceal(options.otlp)
        limits = made_with.limits
        if limits is not None and slots is not None:
            limits = replace(limits, concurrency=slots // most + (number < slots % most))
        return Outset.of(
            ClientOptions(made_with.client, limits),
            config,
            shares=name if slots is None else None,
            output=output,
            number=number,
            window=window,
            level=level,
            otlp=None if otlp is None else otlp.reveal(),
            metrics=options.metrics is not None,
            workers=most,
            flex=flex is not None,
            flex_until=None if flex is None else flex.until,
            answered=store.answered_before or progress.answered > 0,
        )

    return Team(
        most,
        client.window,
        outset,
        store=store,
        purse=engine_of(client).stack.purse,
        progress=progress,
        keep_prompts=options.keep_prompts,
        metrics=options.metrics,
        heard=heard,
        leave=partial(forget, name, cache_folder() / "limits"),
        divides=slots,
        steered=partial(_steered, client, options.model),
    )


def _steered(client: Client, model: str | None, change: Change) -> int:
    """Let the parent's client, which makes no calls, follow a change. Returns how many rows may be under way now.

    Raises:
        ConfigError: a limit is not a number above 0, or the run has no such target.
    """
    engine = engine_of(client)
    known = {target.limited[0] for target in engine.targets_of(model)}
    if change.target is not None and change.target not in known:
        raise ConfigError(f"no target is named {change.target!r}; in use: {' and '.join(sorted(known))}")
    if change.limits:
        engine.targets.change(change.limits, change.target)
    if change.deadline is not None:
        engine.stack.deadline.seconds = change.deadline
    return client.window


def _own_slots(made_with: ClientOptions, config: Config) -> int | None:
    """The concurrency to divide among the workers; None if they share their limits instead.

    A server of the user's own, for which they give a concurrency and nothing else, has no limit per time. Then each
    worker takes its part, and the workers need not ask each other before each call, which would cost 40 µs.
    """
    given = made_with.limits or Limits()
    bare = given == Limits(concurrency=given.concurrency) and not config.limits
    return given.concurrency if bare and made_with.client.get("base_url") is not None else None
