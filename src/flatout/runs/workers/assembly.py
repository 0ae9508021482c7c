"""Assembles the workers of a run from its options and its client."""

from __future__ import annotations

import logging
import socket
from functools import partial
from pathlib import Path

from flatout.client import Client
from flatout.config.folders import cache_folder
from flatout.errors import ConfigError
from flatout.runs.client_options import ClientOptions
from flatout.runs.job import RunOptions
from flatout.runs.story.progress import Progress
from flatout.store import RunFile
from flatout.store.shared import forget
from flatout.values.secret import conceal

from .calls import as_data
from .outset import Outset
from .team import Team

_log = logging.getLogger("flatout")


def team_for(
    options: RunOptions, made_with: ClientOptions, client: Client, store: RunFile, progress: Progress, name: str
) -> Team:
    """The workers of a run.

    Args:
        options: the run's.
        made_with: what the client was made with.
        client: the parent's client, which makes no calls.
        store: the run file.
        progress: the run's counters.
        name: of the run, as no other has it.

    Raises:
        ConfigError: the run is not one for several processes.
    """
    shares, level = f"the workers of {Path(name).absolute()}", _log.getEffectiveLevel()
    config, output = client.config, as_data(options.params.get("output"))
    if options.metrics is not None:
        for number in range(options.workers):
            _check_port(options.metrics + number)

    def outset(number: int, window: int) -> Outset:
        metrics = None if options.metrics is None else options.metrics + number
        otlp = conceal(options.otlp)
        reveal = None if otlp is None else otlp.reveal()
        return Outset.of(
            *(made_with, config, shares), output=output, window=window, level=level, otlp=reveal, metrics=metrics
        )

    return Team(
        options.workers,
        client.window,
        outset,
        store=store,
        purse=client.purse,
        progress=progress,
        keep_prompts=options.keep_prompts,
        leave=partial(forget, shares, cache_folder() / "limits"),
    )


def _check_port(port: int) -> None:
    """Check that a worker will be able to serve its metrics, before another one has sent something.

    Raises:
        ConfigError: the port is taken, or there is no such port.
    """
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except (OSError, OverflowError) as error:
        raise ConfigError(f"metrics cannot be served on 127.0.0.1:{port}: {error}") from None
