"""The options of ``flatout run``, each with its type and its line of help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

_INPUT, _MODEL, _ANSWERS, _LIMITS, _TIME, _RUN = "Input", "Model", "Answers", "Limits", "Time", "Run"
_PLAN = "Plan"

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
    str | None,
    typer.Option(
        metavar="TEXT|@FILE",
        help="Template of the prompt: {{ column }} is the row's value.",
        rich_help_panel=_INPUT,
    ),
]

System = Annotated[
    str | None,
    typer.Option(metavar="TEXT|@FILE", help="Template of the system prompt.", rich_help_panel=_INPUT),
]

Nulls = Annotated[
    Literal["error", "empty", "None"],
    typer.Option(
        metavar="error|empty|None",
        help="A null in a template: refuse it, put nothing there, or the word None.",
        rich_help_panel=_INPUT,
    ),
]

SamePrompt = Annotated[
    bool,
    typer.Option(
        "--same-prompt", metavar="", help="Ask the same of every row: --prompt has no {{ }}.", rich_help_panel=_INPUT
    ),
]

Image = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEMPLATE",
        help="A picture for the prompt: a path or URL, such as '{{ photo }}'; repeatable.",
        rich_help_panel=_INPUT,
    ),
]

Format = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="jsonl, json, csv, tsv, text, parquet, sqlite, duckdb or excel; by default the file's name tells.",
        rich_help_panel=_INPUT,
    ),
]

Encoding = Annotated[str, typer.Option(metavar="NAME", help="The text's encoding.", rich_help_panel=_INPUT)]

Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR", help=r"What stands between the cells of CSV, in and out: ; or \t.", rich_help_panel=_INPUT
    ),
]

Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Take only the first N rows; what is finished beyond them stays in the output.",
        rich_help_panel=_INPUT,
    ),
]

Param = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A parameter of every call, such as temperature=0; values may be JSON; repeatable.",
        rich_help_panel=_MODEL,
    ),
]

Samples = Annotated[
    int | None,
    typer.Option(
        metavar="K", min=1, help="Ask every row K times; each answer is a row of the output.", rich_help_panel=_MODEL
    ),
]

BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Any OpenAI-compatible server; every model name is then sent as it is.",
        rich_help_panel=_MODEL,
    ),
]

Header = Annotated[
    list[str] | None,
    typer.Option(metavar="'NAME: VALUE'", help="Sent with every request; repeatable.", rich_help_panel=_MODEL),
]

TrustEnv = Annotated[
    bool, typer.Option("--trust-env", metavar="", help="Use HTTPS_PROXY and similar variables.", rich_help_panel=_MODEL)
]

Schema = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Every answer must fit this JSON schema; it is parsed.", rich_help_panel=_ANSWERS
    ),
]

Choices = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Every answer must be one of these words: spam,ham.", rich_help_panel=_ANSWERS),
]

FailTruncated = Annotated[
    bool,
    typer.Option(
        "--fail-truncated",
        metavar="",
        help="Treat answers that were cut off at max_tokens as failures.",
        rich_help_panel=_ANSWERS,
    ),
]

Reasks = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="When an answer does not fit, say why and ask again, up to N times; default 1.",
        rich_help_panel=_ANSWERS,
    ),
]

Rpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Requests per minute: 500, 10_000, 10k.", rich_help_panel=_LIMITS),
]

Tpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Tokens per minute, input and output together: 2M.", rich_help_panel=_LIMITS),
]

Itpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Input tokens per minute, if they have their own limit.", rich_help_panel=_LIMITS),
]

Otpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Output tokens per minute, likewise.", rich_help_panel=_LIMITS),
]

Rpd = Annotated[
    str | None,
    typer.Option(metavar="N", help="Requests per day.", rich_help_panel=_LIMITS),
]

Burst = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How much of the limits the provider takes at once, in seconds: 60 for a whole minute's calls, 1 for "
        "an even pace; by default as its headers say, or up to 60 on trial.",
        rich_help_panel=_LIMITS,
    ),
]

Concurrency = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Most calls in flight.", rich_help_panel=_LIMITS)
]

Workers = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=64,
        help="Processes that ask; for a server that takes more than 5,000 calls a second.",
        rich_help_panel=_RUN,
    ),
]

Adaptive = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="What to adapt if no limit is known: rate (hosted), or concurrency (a server of your own).",
        rich_help_panel=_LIMITS,
    ),
]

Share = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Share the limits, also unknown ones, with all runs on this machine that use the same name; on several "
        "machines through Redis: redis://HOST/0/NAME.",
        rich_help_panel=_LIMITS,
    ),
]

WaitForQuota = Annotated[
    bool,
    typer.Option(
        "--wait-for-quota",
        metavar="",
        help="If a quota is used up, wait for it instead of failing the rest.",
        rich_help_panel=_LIMITS,
    ),
]

Budget = Annotated[
    str | None,
    typer.Option(
        metavar="USD[/day|/month][:SCOPE]",
        help="The most to spend on this run; 20/day or 20/month: on all runs. Runs that name the same SCOPE share it.",
        rich_help_panel=_LIMITS,
    ),
]

AllowUnknownPrice = Annotated[
    bool,
    typer.Option(
        "--allow-unknown-price",
        metavar="",
        help="With --budget, also send calls whose price is not known.",
        rich_help_panel=_LIMITS,
    ),
]

Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="[FILE]",
        help="Use kept answers again, and keep new ones: in this file, or in the cache folder.",
        rich_help_panel=_RUN,
    ),
]

CacheMaxAge = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Use only kept answers that are younger: 12h, 7d.",
        rich_help_panel=_RUN,
    ),
]

Reuse = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Use the answers of an earlier run for equal calls; it is only read.",
        rich_help_panel=_RUN,
    ),
]

Lane = Annotated[
    Literal["live", "flex", "batch", "auto"],
    typer.Option(
        metavar="live|flex|batch|auto",
        help="flex: ask for the provider's cheaper, slower service; batch: hand the rows to its batch endpoint, at "
        "half the price, within a day; auto: the cheapest lane that is in time.",
        rich_help_panel=_RUN,
    ),
]

Within = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When all answers are wanted: 24h, 2d. Rows go from batch to flex to live when it is time.",
        rich_help_panel=_RUN,
    ),
]

Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        metavar="",
        help="With batches: submit, collect what is there, and leave. The same command again collects the rest.",
        rich_help_panel=_RUN,
    ),
]

KeepFiles = Annotated[
    bool,
    typer.Option(
        "--keep-files",
        metavar="",
        help="With batches: do not delete the uploaded files and the results at the provider.",
        rich_help_panel=_RUN,
    ),
]

PromptCache = Annotated[
    Literal["auto", "off"] | None,
    typer.Option(
        "--prompt-cache",
        metavar="auto|off",
        help="auto: rows whose prompts begin alike share the provider's prompt cache, at a tenth of the price.",
        rich_help_panel=_MODEL,
    ),
]

Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="The most for one attempt; default 300.", rich_help_panel=_TIME),
]

FirstByte = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="The most until an answer's first byte; answers are then streamed.",
        rich_help_panel=_TIME,
    ),
]

BetweenBytes = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="The most between two pieces of an answer.",
        rich_help_panel=_TIME,
    ),
]

Deadline = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="The most for a whole call, waiting and retries included; default 3600.",
        rich_help_panel=_TIME,
    ),
]

Retries = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Attempts after the first; default 5. Refusals for the rate (429) and outages do not count.",
        rich_help_panel=_TIME,
    ),
]

GiveUp = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How long to wait for a server that was never reached; default 60.",
        rich_help_panel=_TIME,
    ),
]

RetryShare = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="The share of retries among all requests while other rows wait; default 0.2.",
        rich_help_panel=_TIME,
    ),
]

Repeats = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Give a row up after N equal answers that cannot be used; default 3.",
        rich_help_panel=_TIME,
    ),
]

RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", metavar="", help="Ask again for the rows that failed before.", rich_help_panel=_RUN),
]

Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        metavar="",
        help="Start over; the old run file is kept as .1, .2 and so on.",
        rich_help_panel=_RUN,
    ),
]

RunFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The run file; default OUTPUT.flatout, or without -o a file in the cache folder.",
        rich_help_panel=_RUN,
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        metavar="",
        help="Replace the output file even if this run did not write it.",
        rich_help_panel=_RUN,
    ),
]

NoPrompts = Annotated[
    bool, typer.Option("--no-prompts", metavar="", help="Keep no prompts in the run file.", rich_help_panel=_RUN)
]

Neutralise = Annotated[
    bool,
    typer.Option(
        "--neutralise",
        metavar="",
        help="Put ' before cells that a spreadsheet would run as a formula (CSV, TSV).",
        rich_help_panel=_RUN,
    ),
]

Otlp = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Send traces and metrics to an OpenTelemetry collector.", rich_help_panel=_RUN),
]

Metrics = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        help="Serve metrics to Prometheus on 127.0.0.1:PORT.",
        rich_help_panel=_RUN,
    ),
]

Config = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Settings; default the flatout.toml here or in a folder above.", rich_help_panel=_RUN
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Print only errors.", rich_help_panel=_RUN)]

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        metavar="",
        count=True,
        help="Print events: retries, pauses, limits found; -vv also every call.",
        rich_help_panel=_RUN,
    ),
]

Plain = Annotated[
    bool,
    typer.Option("--plain", metavar="", help="Plain lines of progress, even on a terminal.", rich_help_panel=_RUN),
]

Sample = Annotated[
    str,
    typer.Option(
        metavar="N|P%", help="How many calls of each model to ask, or the share of them.", rich_help_panel=_PLAN
    ),
]

SampleBudget = Annotated[
    float,
    typer.Option(metavar="USD", min=0.0, help="The most that the sample may cost.", rich_help_panel=_PLAN),
]

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", metavar="", help="Ask nothing, and say what is assumed.", rich_help_panel=_PLAN),
]

PlannedRows = Annotated[
    str | None,
    typer.Option(
        "--rows",
        metavar="N",
        help="Plan for so many rows, of which the input is only a part: 100M.",
        rich_help_panel=_PLAN,
    ),
]

Yes = Annotated[
    bool,
    typer.Option("--yes", metavar="", help="Go on with the run, whatever it costs.", rich_help_panel=_PLAN),
]

ConfirmAbove = Annotated[
    float | None,
    typer.Option(
        metavar="USD", min=0.0, help="Go on with the run; ask first if it may cost more.", rich_help_panel=_PLAN
    ),
]

AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print the plan as JSON.", rich_help_panel=_PLAN)]
