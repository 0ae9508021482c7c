"""``flatout simulate``: a provider on this machine, with limits and faults of your choice, to test against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flatout.errors import ConfigError

from .parse import given, number, share
from .terminal import say

if TYPE_CHECKING:
    from flatout.testing import BatchSettings, Faults, ProviderModel, ProviderSettings

EPILOG = """\
[bold]Examples[/bold]

$ flatout simulate --rpm 600 --latency 0.5
$ flatout simulate --rpm 10k --tpm 2M --headers openai --faults
$ flatout simulate --rpm 600 --change 60:rpm=300 --outage 120:150
$ flatout simulate --concurrency 8 --limit-kind sliding
$ flatout simulate --batch-time 10 --batch-faults

then, in another terminal:

$ flatout run p.jsonl -o out.jsonl -m any --base-url http://127.0.0.1:8100/v1
"""

_MIX = {
    "rate_limited": 0.02,
    "server_error": 0.02,
    "overloaded": 0.02,
    "reset": 0.02,
    "hang": 0.005,
    "truncated": 0.02,
    "malformed": 0.02,
    "empty": 0.02,
    "invalid": 0.02,
    "stall": 0.005,
    "late_error": 0.02,
    "schema": 0.02,
}
"""The shares that ``--faults`` sets. Hanging faults are rarer, because each costs the client a whole timeout."""

_BATCH_MIX = {
    "lost": 0.05,
    "failed": 0.02,
    "missing": 0.01,
    "expires": 0.05,
    "stuck": 0.01,
    "poison": 0.0001,
    "unknown_state": 0.05,
    "short": 0.05,
    "cut": 0.05,
}
"""The shares that ``--batch-faults`` sets. One poisoned row fails its whole batch, so there are few."""

# The panels of the help.
_limits = partial(typer.Option, rich_help_panel="Limits")
_service = partial(typer.Option, rich_help_panel="Service")
_faults = partial(typer.Option, rich_help_panel="Faults")
_batches = partial(typer.Option, rich_help_panel="Batches")


def _fault(help: str) -> Any:
    return _faults(metavar="P", help=help)


def simulate(
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65_535, help="Where to listen; 0 takes a free one.")
    ] = 8100,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen at; by default only this machine can connect.")
    ] = "127.0.0.1",
    rpm: Annotated[str | None, _limits(metavar="N", help="Requests per minute.")] = None,
    tpm: Annotated[str | None, _limits(metavar="N", help="Tokens per minute.")] = None,
    limit_kind: Annotated[
        Literal["bucket", "sliding", "fixed"],
        _limits(metavar="KIND", help="How the limits are enforced: a token bucket, a sliding or a fixed window."),
    ] = "bucket",
    burst: Annotated[
        float | None, _limits(metavar="SECONDS", help="How much of the limit the bucket holds, in seconds; default 60.")
    ] = None,
    concurrency: Annotated[int | None, _limits(metavar="N", min=1, help="Most requests served at once.")] = None,
    latency: Annotated[float, _service(metavar="SECONDS", help="The median time of an answer.")] = 0.5,
    latency_p99: Annotated[
        float | None, _service(metavar="SECONDS", help="Its 99th percentile; default three times the median.")
    ] = None,
    first_token: Annotated[
        float | None,
        _service(
            metavar="SECONDS", help="The median time until a streamed answer begins; default a fifth of --latency."
        ),
    ] = None,
    headers: Annotated[
        str,
        _service(
            metavar="DIALECT",
            help="Rate-limit headers as sent by openai, azure, anthropic, groq, mistral, together, fireworks, "
            "openrouter; or none.",
        ),
    ] = "none",
    prompt_cache: Annotated[
        Literal["none", "prefix", "breakpoints"],
        _service(
            metavar="KIND",
            help="How prompts are cached: as by OpenAI's earlier models (prefix), or up to markers (breakpoints).",
        ),
    ] = "none",
    key: Annotated[str | None, _service(metavar="TEXT", help="The only key that is accepted.")] = None,
    seed: Annotated[int, _service(metavar="N", help="Makes random choices repeatable.")] = 0,
    change: Annotated[
        list[str] | None,
        _service(metavar="AT:NAME=VALUE", help="Change a setting AT seconds after the start: 60:rpm=300; repeatable."),
    ] = None,
    outage: Annotated[
        str | None, _faults(metavar="FROM:TO", help="Serve nothing from FROM to TO seconds: 120:150.")
    ] = None,
    no_room: Annotated[
        str | None, _faults(metavar="FROM:TO", help="Have no room for the flex tier from FROM to TO seconds (429).")
    ] = None,
    faults: Annotated[
        bool,
        _faults(
            "--faults",
            metavar="",
            help="A mix: 2% of each fault below, hang and stall 0.5%. Run with a short --timeout.",
        ),
    ] = False,
    error_429: Annotated[str | None, _fault("Share of 429s although no limit was reached: 0.02 or 2%.")] = None,
    error_500: Annotated[str | None, _fault("Share of 500s.")] = None,
    error_503: Annotated[str | None, _fault("Share of 503s.")] = None,
    error_400: Annotated[str | None, _fault("Share of prompts that always fail with a 400.")] = None,
    reset: Annotated[str | None, _fault("Share of connections closed without an answer.")] = None,
    hang: Annotated[str | None, _fault("Share of requests never answered.")] = None,
    stall: Annotated[str | None, _fault("Share of answers that stop in the middle, the connection open.")] = None,
    truncate: Annotated[str | None, _fault("Share of answers cut off in the middle.")] = None,
    malformed: Annotated[str | None, _fault("Share of answers that are not JSON.")] = None,
    empty: Annotated[str | None, _fault("Share of answers without text.")] = None,
    late_error: Annotated[
        str | None, _fault("Share of errors that come after a 200; in a stream, in the middle.")
    ] = None,
    misfit: Annotated[
        str | None, _fault("Share of conversations whose answer does not fit the schema asked for.")
    ] = None,
    batch_time: Annotated[
        float | None,
        _batches(
            metavar="SECONDS",
            min=0,
            help="The median time of a batch; default 1200. It is validated and finalized in a tenth of it.",
        ),
    ] = None,
    batch_window: Annotated[
        float | None, _batches(metavar="SECONDS", help="When a batch expires; default a day or the vendor's.")
    ] = None,
    batch_tokens: Annotated[
        str | None, _batches(metavar="N", help="Most prompt tokens of a model in open batches.")
    ] = None,
    batch_faults: Annotated[
        bool,
        _batches(
            "--batch-faults",
            metavar="",
            help="A mix: lost answers, failed and missing rows, batches that expire or never end, cut downloads.",
        ),
    ] = False,
) -> int:
    """Play a provider: a server of OpenAI's and Anthropic's formats, with limits and faults of your choice.

    It answers chat completions, Responses and Messages, whole or streamed, and embeddings. Nothing leaves this machine,
    and nothing costs money: the answers are made up, as text, JSON that fits a schema, or tool calls. It has the batch
    endpoints of OpenAI, Anthropic, Mistral and Gemini, too.
    """
    drawn = {
        "rate_limited": share("--error-429", error_429),
        "server_error": share("--error-500", error_500),
        "overloaded": share("--error-503", error_503),
        "invalid": share("--error-400", error_400),
        "reset": share("--reset", reset),
        "hang": share("--hang", hang),
        "stall": share("--stall", stall),
        "truncated": share("--truncate", truncate),
        "malformed": share("--malformed", malformed),
        "empty": share("--empty", empty),
        "late_error": share("--late-error", late_error),
        "schema": share("--misfit", misfit),
    }
    settings = _settings(
        rpm=number("--rpm", rpm),
        tpm=number("--tpm", tpm),
        limit=limit_kind,
        burst=burst,
        slots=concurrency,
        latency=latency,
        latency_p99=latency_p99,
        first_token=first_token,
        headers="" if headers == "none" else headers,
        prompt_cache="" if prompt_cache == "none" else prompt_cache,
        key=key,
        changes=changes(change or ()) or None,
        outage=span(outage),
        no_room=span(no_room, "--no-room"),
        faults=_faults_of({**(_MIX if faults else {}), **given(drawn)}),
        batch=_batch(batch_time, batch_window, number("--batch-tokens", batch_tokens), faults=batch_faults),
    )
    say(statistics(_serve(settings, host, port, seed)))
    return 0


def changes(given: Sequence[str]) -> tuple[tuple[float, dict[str, float | None]], ...]:
    """Changes from ``AT:name=value`` texts; ``none`` lifts a limit.

    Raises:
        ConfigError: a text has another form.
    """
    found: list[tuple[float, dict[str, float | None]]] = []
    for text in given:
        at, colon, change = text.partition(":")
        name, equals, value = change.partition("=")
        if not colon or not equals:
            raise ConfigError(f"--change takes AT:NAME=VALUE, such as 60:rpm=300, not {text!r}")
        new = None if value.strip() == "none" else number(f"--change {name}", value)
        found.append((_seconds("--change", at), {name.strip().replace("-", "_"): new}))
    return tuple(sorted(found, key=lambda item: item[0]))


def span(text: str | None, option: str = "--outage") -> tuple[float, float] | None:
    """The start and the end in ``FROM:TO``.

    Raises:
        ConfigError: the text has another form, or the end comes before the start.
    """
    if text is None:
        return None
    start, colon, end = text.partition(":")
    if not colon or _seconds(option, end) <= _seconds(option, start):
        raise ConfigError(f"{option} takes FROM:TO in seconds, such as 120:150, not {text!r}")
    return _seconds(option, start), _seconds(option, end)


def statistics(counts: dict[str, Any]) -> str:
    """The provider's counts, in one line."""
    from flatout.text import figures

    parts = [f"{counts['received']:,} received", f"{counts['answered']:,} answered"]
    if counts["refused"]:
        parts.append(f"{counts['refused']:,} refused for their rate or number")
    parts += [f"{times:,} × {name}" for name, times in sorted(counts["faults"].items())]
    if counts["duplicates"]:
        parts.append(f"{counts['duplicates']:,} answered more than once")
    if created := counts["batches"]["created"]:
        batches = "batch" if created == 1 else "batches"
        parts.append(f"{created:,} {batches} of {counts['batches']['rows']:,} rows")
    if tokens := counts["prompt_tokens"] + counts["output_tokens"]:
        cached = f" ({figures.short(counts['cached_tokens'])} from the prompt cache)" if counts["cached_tokens"] else ""
        parts.append(f"{figures.short(tokens)} tokens{cached}")
    parts.append(f"{counts['most_in_flight']:,} in flight at most")
    return f"flatout: {', '.join(parts)}"


def _seconds(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{option} counts seconds from the start, such as 60, not {text!r}")
    return value


def _settings(**values: Any) -> ProviderSettings:
    import msgspec

    from flatout.testing import ProviderSettings

    settings = ProviderSettings(**given(values))
    try:  # a struct does not check the types of its values
        msgspec.convert({"headers": settings.headers}, ProviderSettings)
    except msgspec.ValidationError:
        raise ConfigError(
            f"--headers: no dialect is called {settings.headers!r}; see flatout simulate --help"
        ) from None
    return settings


def _faults_of(shares: dict[str, float]) -> Faults:
    from flatout.testing import Faults

    return Faults(**shares)


def _batch(time: float | None, window: float | None, tokens: float | None, *, faults: bool) -> BatchSettings:
    from flatout.testing import BatchFaults, BatchSettings

    return BatchSettings(
        **given(
            {
                "time": time,
                "validating": None if time is None else time / 10,
                "finalizing": None if time is None else time / 10,
                "window": window,
                "enqueued_tokens": None if tokens is None else int(tokens),
                "faults": BatchFaults(**_BATCH_MIX) if faults else None,
            }
        )
    )


def _serve(settings: ProviderSettings, host: str, port: int, seed: int) -> dict[str, Any]:
    """Serve until Ctrl-C and return the counts."""
    import asyncio
    import os

    from flatout.tasks.loop import loop_factory
    from flatout.testing import ProviderModel

    model = ProviderModel(settings, seed)
    with asyncio.Runner(loop_factory=loop_factory()) as loop:
        try:
            loop.run(_until_signalled(model, host, port))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise ConfigError(f"cannot listen at {host}:{port}: {why}; try another --port") from None
    return model.stats()


async def _until_signalled(model: ProviderModel, host: str, port: int) -> None:
    import asyncio
    import signal

    from flatout.testing import serve

    stopped = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    async with await serve(model, host, port) as server:
        say(f"A simulated provider answers at {server.url} until Ctrl-C. Point flatout at it with:")
        say(f"  flatout run prompts.jsonl -o answers.jsonl -m any --base-url {server.url}")
        say(f"Its counts are at {server.url.removesuffix('/v1')}/__stats")
        await stopped.wait()
