"""The options of ``flatout run``, each with its type and its line of help."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import typer

# The panels of the help.
_input = partial(typer.Option, rich_help_panel="Input")
_model = partial(typer.Option, rich_help_panel="Model")
_answers = partial(typer.Option, rich_help_panel="Answers")
_limits = partial(typer.Option, rich_help_panel="Limits")
_time = partial(typer.Option, rich_help_panel="Time")
_run = partial(typer.Option, rich_help_panel="Run")
_plan = partial(typer.Option, rich_help_panel="Plan")

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Prompts: JSON, CSV, text, Parquet, a workbook or a database (shop.db::orders), packed or not; "
        "a folder, '*.jsonl' or a URL; [bold]-[/bold] is stdin.",
    ),
]

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Answers: .jsonl, .csv, .tsv (and packed: .jsonl.gz), .parquet or a table (out.db::answers); "
        "else JSONL to the terminal.",
    ),
]

Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="provider/model, a route of flatout.toml, or [bold]local[/bold]: no key, no network. "
        "Repeat it to ask each of several.",
    ),
]

Prompt = Annotated[
    str | None, _input(metavar="TEXT|@FILE", help="Template of the prompt: {{ column }} is the row's value.")
]

System = Annotated[str | None, _input(metavar="TEXT|@FILE", help="Template of the system prompt.")]

Nulls = Annotated[
    Literal["error", "empty", "None"],
    _input(metavar="error|empty|None", help="A null in a template: refuse it, put nothing there, or the word None."),
]

SamePrompt = Annotated[
    bool, _input("--same-prompt", metavar="", help="Ask the same of every row: --prompt has no {{ }}.")
]

Image = Annotated[
    list[str] | None,
    _input(metavar="TEMPLATE", help="A picture for the prompt: a path or URL, such as '{{ photo }}'; repeatable."),
]

Format = Annotated[
    str | None,
    _input(
        metavar="NAME",
        help="jsonl, json, csv, tsv, text, parquet, sqlite, duckdb or excel; by default the file's name tells.",
    ),
]

Encoding = Annotated[str, _input(metavar="NAME", help="The text's encoding.")]

Delimiter = Annotated[
    str | None, _input(metavar="CHAR", help=r"What stands between the cells of CSV, in and out: ; or \t.")
]

Limit = Annotated[
    int | None,
    _input(metavar="N", min=1, help="Take only the first N rows; what is finished beyond them stays in the output."),
]

Param = Annotated[
    list[str] | None,
    _model(
        metavar="NAME=VALUE", help="A parameter of every call, such as temperature=0; values may be JSON; repeatable."
    ),
]

Samples = Annotated[
    int | None, _model(metavar="K", min=1, help="Ask every row K times; each answer is a row of the output.")
]

BaseUrl = Annotated[
    str | None, _model(metavar="URL", help="Any OpenAI-compatible server; every model name is then sent as it is.")
]

Header = Annotated[list[str] | None, _model(metavar="'NAME: VALUE'", help="Sent with every request; repeatable.")]

TrustEnv = Annotated[bool, _model("--trust-env", metavar="", help="Use HTTPS_PROXY and similar variables.")]

Schema = Annotated[str | None, _answers(metavar="FILE", help="Every answer must fit this JSON schema; it is parsed.")]

Choices = Annotated[str | None, _answers(metavar="A,B", help="Every answer must be one of these words: spam,ham.")]

FailTruncated = Annotated[
    bool, _answers("--fail-truncated", metavar="", help="Treat answers that were cut off at max_tokens as failures.")
]

Reasks = Annotated[
    int | None,
    _answers(metavar="N", min=0, help="When an answer does not fit, say why and ask again, up to N times; default 1."),
]

Rpm = Annotated[str | None, _limits(metavar="N", help="Requests per minute: 500, 10_000, 10k.")]

Tpm = Annotated[str | None, _limits(metavar="N", help="Tokens per minute, input and output together: 2M.")]

Itpm = Annotated[str | None, _limits(metavar="N", help="Input tokens per minute, if they have their own limit.")]

Otpm = Annotated[str | None, _limits(metavar="N", help="Output tokens per minute, likewise.")]

Rpd = Annotated[str | None, _limits(metavar="N", help="Requests per day.")]

Burst = Annotated[
    float | None,
    _limits(
        metavar="SECONDS",
        help="How much of the limits the provider takes at once, in seconds: 60 for a whole minute's calls, 1 for "
        "an even pace; by default as its headers say, or up to 60 on trial.",
    ),
]

Concurrency = Annotated[int | None, _limits(metavar="N", min=1, help="Most calls in flight.")]

Workers = Annotated[
    int,
    _run(
        metavar="N", min=1, max=64, help="Processes that ask; for a server that takes more than 5,000 calls a second."
    ),
]

Adaptive = Annotated[
    str | None,
    _limits(
        metavar="WHAT", help="What to adapt if no limit is known: rate (hosted), or concurrency (a server of your own)."
    ),
]

Shared = Annotated[
    str | None,
    _limits(
        "--shared",
        "--share",  # its first name, which scripts still use
        metavar="NAME",
        help="Share the limits, also unknown ones, with all runs on this machine that use the same name; on several "
        "machines through Redis: redis://HOST/0/NAME.",
    ),
]

WaitForQuota = Annotated[
    bool,
    _limits("--wait-for-quota", metavar="", help="If a quota is used up, wait for it instead of failing the rest."),
]

_USD = "USD[/day|/month][:SCOPE]"

Budget = Annotated[
    str | None,
    _limits(
        metavar=_USD,
        help="The most to spend on this run; 20/day or 20/month: on all runs. Runs that name the same SCOPE share it.",
    ),
]

BudgetOfGateway = Annotated[
    str | None,
    _limits(
        metavar=_USD,
        help="The most to spend until it ends; 20/day or 20/month: on all gateways and runs. Those that name the same "
        "SCOPE share it.",
    ),
]

AllowUnknownPrice = Annotated[
    bool, _limits("--allow-unknown-price", metavar="", help="With --budget, also send calls whose price is not known.")
]

Cache = Annotated[
    str | None,
    _run(
        "--cache",
        metavar="[FILE]",
        help="Use kept answers again, and keep new ones: in this file, in Redis (redis://host:6379/0/team), or in the "
        "cache folder.",
    ),
]

CacheMaxAge = Annotated[str | None, _run(metavar="TIME", help="Use only kept answers that are younger: 12h, 7d.")]

Reuse = Annotated[
    str | None, _run(metavar="RUN", help="Use the answers of an earlier run for equal calls; it is only read.")
]

Lane = Annotated[
    Literal["live", "flex", "batch", "auto"],
    _run(
        metavar="live|flex|batch|auto",
        help="flex: ask for the provider's cheaper, slower service; batch: hand the rows to its batch endpoint, at "
        "half the price, within a day; auto: the cheapest lane that is in time.",
    ),
]

Within = Annotated[
    str | None,
    _run(
        metavar="TIME", help="When all answers are wanted: 24h, 2d. Rows go from batch to flex to live when it is time."
    ),
]

Detach = Annotated[
    bool,
    _run(
        "--detach",
        metavar="",
        help="With batches: submit, collect what is there, and leave. The same command again collects the rest.",
    ),
]

KeepFiles = Annotated[
    bool,
    _run(
        "--keep-files",
        metavar="",
        help="With batches: do not delete the uploaded files and the results at the provider.",
    ),
]

PromptCache = Annotated[
    Literal["auto", "off"] | None,
    _model(
        "--prompt-cache",
        metavar="auto|off",
        help="auto: rows whose prompts begin alike share the provider's prompt cache, at a tenth of the price.",
    ),
]

Timeout = Annotated[float | None, _time(metavar="SECONDS", help="The most for one attempt; default 300.")]

FirstByte = Annotated[
    float | None, _time(metavar="SECONDS", help="The most until an answer's first byte; answers are then streamed.")
]

BetweenBytes = Annotated[float | None, _time(metavar="SECONDS", help="The most between two pieces of an answer.")]

Deadline = Annotated[
    float | None,
    _time(metavar="SECONDS", help="The most for a whole call, waiting and retries included; default 3600."),
]

Retries = Annotated[
    int | None,
    _time(
        metavar="N",
        min=0,
        help="Attempts after the first; default 5. Refusals for the rate (429) and outages do not count.",
    ),
]

GiveUp = Annotated[
    float | None, _time(metavar="SECONDS", help="How long to wait for a server that was never reached; default 60.")
]

RetryShare = Annotated[
    float | None,
    _time(metavar="SHARE", help="The share of retries among all requests while other rows wait; default 0.2."),
]

Repeats = Annotated[
    int | None, _time(metavar="N", min=1, help="Give a row up after N equal answers that cannot be used; default 3.")
]

RetryFailed = Annotated[bool, _run("--retry-failed", metavar="", help="Ask again for the rows that failed before.")]

Fresh = Annotated[bool, _run("--fresh", metavar="", help="Start over; the old run file is kept as .1, .2 and so on.")]

RunFile = Annotated[
    str | None,
    _run(metavar="FILE", help="The run file; default OUTPUT.flatout, or without -o a file in the cache folder."),
]

Overwrite = Annotated[
    bool, _run("--overwrite", metavar="", help="Replace the output file even if this run did not write it.")
]

NoPrompts = Annotated[bool, _run("--no-prompts", metavar="", help="Keep no prompts in the run file.")]

Neutralise = Annotated[
    bool,
    _run("--neutralise", metavar="", help="Put ' before cells that a spreadsheet would run as a formula (CSV, TSV)."),
]

Otlp = Annotated[str | None, _run(metavar="URL", help="Send traces and metrics to an OpenTelemetry collector.")]

Metrics = Annotated[int | None, _run(metavar="PORT", help="Serve metrics to Prometheus on 127.0.0.1:PORT.")]

Config = Annotated[
    str | None, _run(metavar="FILE", help="Settings; default the flatout.toml here or in a folder above.")
]

Quiet = Annotated[bool, _run("--quiet", "-q", metavar="", help="Print only errors.")]

Verbose = Annotated[
    int,
    _run(
        "--verbose",
        "-v",
        metavar="",
        count=True,
        show_default=False,
        help="Print events: retries, pauses, limits found; -vv also every call.",
    ),
]

Plain = Annotated[bool, _run("--plain", metavar="", help="Plain lines of progress, even on a terminal.")]

Sample = Annotated[str, _plan(metavar="N|P%", help="How many calls of each model to ask, or the share of them.")]

SampleBudget = Annotated[float, _plan(metavar="USD", min=0.0, help="The most that the sample may cost.")]

DryRun = Annotated[bool, _plan("--dry-run", metavar="", help="Ask nothing, and say what is assumed.")]

PlannedRows = Annotated[
    str | None, _plan("--rows", metavar="N", help="Plan for this many rows, of which the input is only a part: 100M.")
]

Yes = Annotated[bool, _plan("--yes", metavar="", help="Go on with the run, whatever it costs.")]

ConfirmAbove = Annotated[
    float | None, _plan(metavar="USD", min=0.0, help="Go on with the run; ask first if it may cost more.")
]

AsJson = Annotated[bool, _plan("--json", metavar="", help="Print the plan as JSON.")]
