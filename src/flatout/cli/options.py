"""The options of ``flatout run``: what each takes, and its line of help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

_INPUT, _MODEL, _ANSWERS, _LIMITS, _TIME, _RUN = "Input", "Model", "Answers", "Limits", "Time", "Run"

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="Prompts: JSON, CSV, TSV, text or Parquet; [bold]-[/bold] is stdin."),
]

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Answers: .jsonl, .csv, .tsv or .parquet; else JSONL to the terminal.",
    ),
]

Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="provider/model, or [bold]local[/bold]: no key, no network. Repeat it to ask each of several.",
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
        help="jsonl, json, csv, tsv, text or parquet; told by the file's name when left out.",
        rich_help_panel=_INPUT,
    ),
]

Encoding = Annotated[str, typer.Option(metavar="NAME", help="The text's encoding.", rich_help_panel=_INPUT)]

Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Take the first N rows alone.", rich_help_panel=_INPUT)
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
        help="Any OpenAI-compatible server; every model name is then taken as it is.",
        rich_help_panel=_MODEL,
    ),
]

Header = Annotated[
    list[str] | None,
    typer.Option(metavar="'NAME: VALUE'", help="Sent with every request; repeatable.", rich_help_panel=_MODEL),
]

TrustEnv = Annotated[
    bool, typer.Option("--trust-env", metavar="", help="Obey HTTPS_PROXY and its like.", rich_help_panel=_MODEL)
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
        help="Take answers that were cut off at max_tokens for failures.",
        rich_help_panel=_ANSWERS,
    ),
]

Reasks = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="When an answer does not fit, say why and ask again, up to N times; 1 when left out.",
        rich_help_panel=_ANSWERS,
    ),
]

Rpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Requests per minute: 500, 10_000, 10k.", rich_help_panel=_LIMITS),
]

Tpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Tokens per minute, in and out together: 2M.", rich_help_panel=_LIMITS),
]

Itpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Input tokens per minute, where they count apart.", rich_help_panel=_LIMITS),
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
        help="Seconds' worth of the limits that the provider takes at once: 60 for a whole minute's calls, 1 to go "
        "evenly; when left out, as its headers say, or up to 60 on trial.",
        rich_help_panel=_LIMITS,
    ),
]

Concurrency = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Most calls in flight.", rich_help_panel=_LIMITS)
]

Adaptive = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="What to adapt where no limit is known: rate (hosted), or concurrency (a server of your own).",
        rich_help_panel=_LIMITS,
    ),
]

Share = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Keep to the limits together with all runs on this machine that name the same; unknown ones, too.",
        rich_help_panel=_LIMITS,
    ),
]

WaitForQuota = Annotated[
    bool,
    typer.Option(
        "--wait-for-quota",
        metavar="",
        help="When a quota is used up, wait for it instead of failing the rest.",
        rich_help_panel=_LIMITS,
    ),
]

Budget = Annotated[
    float | None,
    typer.Option(
        metavar="USD", help="The most to spend; calls that might exceed it are not sent.", rich_help_panel=_LIMITS
    ),
]

Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="The most for one attempt; 300 when left out.", rich_help_panel=_TIME),
]

FirstByte = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="The most until an answer's first byte; answers then come in pieces.",
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
        help="The most for a call, from when its row is taken up: waiting and retries included; 3600 when left out.",
        rich_help_panel=_TIME,
    ),
]

Retries = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Attempts after the first; 5 when left out. Refusals for the rate (429) and outages do not count.",
        rich_help_panel=_TIME,
    ),
]

GiveUp = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How long to wait for a server that was never reached; 60 when left out.",
        rich_help_panel=_TIME,
    ),
]

RetryShare = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Of what is sent, how much may be retries while other rows wait; 0.2 when left out.",
        rich_help_panel=_TIME,
    ),
]

Repeats = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Equal answers that cannot be used after which a row is given up; 3 when left out.",
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
        help="Start over; the run file of before is kept, as .1, .2 and so on.",
        rich_help_panel=_RUN,
    ),
]

RunFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Where the run is kept; OUTPUT.flatout, or without -o a file in the cache folder.",
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
    typer.Option(metavar="FILE", help="Settings; flatout.toml from here upward when left out.", rich_help_panel=_RUN),
]

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="Say nothing but what went wrong.", rich_help_panel=_RUN)
]

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        metavar="",
        count=True,
        help="Say what happens: retries, pauses, limits found; -vv also every call.",
        rich_help_panel=_RUN,
    ),
]

Plain = Annotated[
    bool,
    typer.Option("--plain", metavar="", help="Plain lines of progress, even on a terminal.", rich_help_panel=_RUN),
]
