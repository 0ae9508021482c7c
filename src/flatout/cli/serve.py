"""``flatout serve``: a gateway on this machine, through which programs of any language are paced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatout.errors import ConfigError

from . import options
from .parse import CACHE_FOLDER, budget_of, given, number
from .terminal import clean, say

if TYPE_CHECKING:
    from flatout.serve.listen import Asked

EPILOG = """\
[bold]Examples[/bold]

$ flatout serve -m openai/gpt-5-mini --rpm 10k
$ flatout serve          # what flatout.toml and the environment's keys allow
$ flatout serve -m openai/gpt-5-mini -m anthropic/claude-haiku-4-5
$ flatout serve -m any --base-url http://127.0.0.1:8000/v1 --port 8701
$ flatout serve -m openai/gpt-5-mini --budget 20/day --cache

then point any client at it:

    OPENAI_BASE_URL=http://127.0.0.1:8700/v1
    ANTHROPIC_BASE_URL=http://127.0.0.1:8700
"""

PORT = 8700


def serve(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="A model to serve: provider/model, a route of flatout.toml, or [bold]local[/bold]; repeatable. "
            "Default: all that flatout.toml and the environment's keys allow.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65_535, help="Where to listen; 0 takes a free one.")
    ] = PORT,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen at; by default only this machine can connect.")
    ] = "127.0.0.1",
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", metavar="", help="Let other machines connect. They need a local key."),
    ] = False,
    base_url: options.BaseUrl = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    concurrency: options.Concurrency = None,
    shared: options.Shared = None,
    budget: options.BudgetOfGateway = None,
    allow_unknown_price: options.AllowUnknownPrice = False,
    timeout: options.Timeout = None,
    deadline: options.Deadline = None,
    retries: options.Retries = None,
    cache: options.Cache = None,
    run_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The run file, which flatout watch shows; default one by the port. It holds no prompts.",
        ),
    ] = None,
    metrics: Annotated[
        bool,
        typer.Option("--metrics", metavar="", help="Tell more in /metrics: OpenTelemetry's figures of all calls."),
    ] = False,
    otlp: options.Otlp = None,
    config: options.Config = None,
    verbose: options.Verbose = 0,
) -> None:
    """Serve a gateway: clients of any language send their calls through it, paced, retried, cached and billed.

    It takes the formats of OpenAI (chat completions, responses, embeddings, files and batches) and of Anthropic
    (messages), whole and streamed, for targets of any format. Calls wait for their turn instead of being refused.
    """
    if context.invoked_subcommand is not None:
        return
    from flatout.serve.listen import Asked
    from flatout.values import Limits
    from flatout.values.secret import conceal

    limits = given(
        {"rpm": number("--rpm", rpm), "tpm": number("--tpm", tpm), "concurrency": concurrency, "shared": shared}
    )
    made_with = given(
        {
            "model": model[0] if model else None,
            "base_url": conceal(base_url),
            "limits": Limits(**limits) if limits else None,
            "budget": budget_of(budget),
            "allow_unknown_price": allow_unknown_price or None,
            "timeout": timeout,
            "deadline": deadline,
            "retries": retries,
            "cache": True if cache == CACHE_FOLDER else cache,
            "config": config,
        }
    )
    asked = Asked(
        models=tuple(model or ()),
        host=host,
        port=port,
        allow_remote=allow_remote,
        store=run_file or _usual(port),
        metrics=metrics,
        otlp=conceal(otlp),
    )
    _serve(made_with, asked, verbose)


def _usual(port: int) -> str:
    """The run file of a gateway that is not told one."""
    from flatout.serve.listen import usual_folder

    return str(usual_folder(port) / "gateway.flatout")


def _serve(made_with: dict[str, Any], asked: Asked, verbose: int) -> None:
    """Serve until a signal comes."""
    import asyncio
    import os

    from flatout.client import Client
    from flatout.runs.process import allow_many_files, tune_collector
    from flatout.tasks.loop import loop_factory

    from . import logs

    tune_collector()
    allow_many_files()
    if asked.store is not None:
        Path(asked.store).absolute().parent.mkdir(parents=True, exist_ok=True)
    with logs.shown(verbose, targets=True), asyncio.Runner(loop_factory=loop_factory()) as loop:
        try:
            loop.run(_until_signalled(Client(**made_with), asked))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise ConfigError(f"cannot listen at {asked.host}:{asked.port}: {why}; try another --port") from None


async def _until_signalled(client: Any, asked: Asked) -> None:
    import asyncio
    import signal

    from flatout.serve.listen import served

    stopped = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    async with client, served(client, asked, stopped.set) as url:
        say(f"flatout: serves {', '.join(map(clean, asked.models)) or 'any model'} at {url} until Ctrl-C")
        say(f"  OPENAI_BASE_URL={url} ANTHROPIC_BASE_URL={url.removesuffix('/v1')}")
        say(f"  flatout watch {clean(asked.store or '')}")
        await stopped.wait()
        say("flatout: lets open calls finish, for 10 s at most")
