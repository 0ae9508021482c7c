"""``flatout run``: a file of prompts in, a file of answers out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatout.errors import ConfigError, FlatoutError, RunMismatch

from . import FAILED, INTERRUPTED
from .before import Before
from .parse import command_line, given, headers, number, params, text_or_file
from .terminal import clean, is_live, say, tell

if TYPE_CHECKING:
    from flatout.runs.progress import Progress
    from flatout.runs.runner import Outcome, Runner, RunOptions

EPILOG = """\
[bold]Examples[/bold]

$ flatout run prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini
$ flatout run mails.csv -o out.csv -m local --prompt "Spam or ham? {{ text }}"
$ flatout run rows.jsonl -o out.jsonl -m groq/llama-3.3-70b-versatile \\
    --prompt @prompt.txt --rpm 10k --tpm 2M --budget 5
$ flatout run rows.jsonl -o o.jsonl -m any --base-url http://127.0.0.1:8000/v1
$ cat prompts.txt | flatout run - -m openai/gpt-5-mini > answers.jsonl

[bold]Keys[/bold] are read from the environment, never from the command line: OPENAI_API_KEY, \
ANTHROPIC_API_KEY, GEMINI_API_KEY and so on by provider; FLATOUT_API_KEY with --base-url.

[bold]Going on[/bold]: after an interrupt, a crash or a used-up budget, run the same command again. Rows with an \
answer are never asked, or paid for, twice. See how a run is doing with: flatout status OUTPUT

[bold]Exit codes[/bold]: 0 all answered; 1 finished, but some rows have no answer; 2 unusable input or options, \
nothing was sent; 130 interrupted.
"""

_INPUT, _MODEL, _LIMITS, _RUN = "Input", "Model", "Limits", "Run"
_LARGE = 20_000_000  # bytes; below, checking takes less than a second or two


def run(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Prompts: JSONL, CSV, TSV, text or Parquet; [bold]-[/bold] is stdin."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Answers: .jsonl, .csv, .tsv or .parquet; stdout when left out."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="provider/model, or [bold]local[/bold]: no key, no network."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|@FILE",
            help="Template of the prompt: {{ column }} is the row's value.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE", help="Template of the system prompt.", rich_help_panel=_INPUT),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="jsonl, csv, tsv, text or parquet; told by the file's name when left out.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="The text's encoding.", rich_help_panel=_INPUT)
    ] = "utf-8",
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Take the first N rows alone.", rich_help_panel=_INPUT)
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A parameter of every call, such as temperature=0; values may be JSON; repeatable.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Any OpenAI-compatible server; every model name is then taken as it is.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="Sent with every request; repeatable.", rich_help_panel=_MODEL),
    ] = None,
    trust_env: Annotated[
        bool, typer.Option("--trust-env", metavar="", help="Obey HTTPS_PROXY and its like.", rich_help_panel=_MODEL)
    ] = False,
    rpm: Annotated[
        str | None,
        typer.Option(metavar="N", help="Requests per minute: 500, 10_000, 10k.", rich_help_panel=_LIMITS),
    ] = None,
    tpm: Annotated[
        str | None,
        typer.Option(metavar="N", help="Tokens per minute, in and out together: 2M.", rich_help_panel=_LIMITS),
    ] = None,
    itpm: Annotated[
        str | None,
        typer.Option(metavar="N", help="Input tokens per minute, where they count apart.", rich_help_panel=_LIMITS),
    ] = None,
    otpm: Annotated[
        str | None,
        typer.Option(metavar="N", help="Output tokens per minute, likewise.", rich_help_panel=_LIMITS),
    ] = None,
    rpd: Annotated[
        str | None,
        typer.Option(metavar="N", help="Requests per day.", rich_help_panel=_LIMITS),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most calls in flight.", rich_help_panel=_LIMITS)
    ] = None,
    adaptive: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What to adapt where no limit is known: rate (hosted), or concurrency (a server of your own).",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Share these limits with all runs on this machine that name the same.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    wait_for_quota: Annotated[
        bool,
        typer.Option(
            "--wait-for-quota",
            metavar="",
            help="When a quota is used up, wait for it instead of failing the rest.",
            rich_help_panel=_LIMITS,
        ),
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="USD", help="The most to spend; calls that might exceed it are not sent.", rich_help_panel=_LIMITS
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="For one attempt; 300 when left out.", rich_help_panel=_LIMITS),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="For a whole call, waiting and retries included; 3600 when left out.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Attempts after the first; 5 when left out. Throttled ones (429) do not count.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", metavar="", help="Ask again for the rows that failed before.", rich_help_panel=_RUN
        ),
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", metavar="", help="Move an existing run file aside and start over.", rich_help_panel=_RUN
        ),
    ] = False,
    run_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where the run is kept; OUTPUT.flatout when left out.", rich_help_panel=_RUN),
    ] = None,
    no_prompts: Annotated[
        bool, typer.Option("--no-prompts", metavar="", help="Keep no prompts in the run file.", rich_help_panel=_RUN)
    ] = False,
    neutralise: Annotated[
        bool,
        typer.Option(
            "--neutralise",
            metavar="",
            help="Put ' before cells that a spreadsheet would run as a formula (CSV, TSV).",
            rich_help_panel=_RUN,
        ),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="flatout.toml; else looked for from here upward.", rich_help_panel=_RUN),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", help="Say nothing but what went wrong.", rich_help_panel=_RUN)
    ] = False,
    plain: Annotated[
        bool,
        typer.Option("--plain", metavar="", help="Plain lines of progress, even on a terminal.", rich_help_panel=_RUN),
    ] = False,
) -> int:
    """Run every prompt of a file: as fast as your limits allow, and never past them.

    One row in, one answer or named error out, in the same order.
    A run can be interrupted at any time, and goes on where it was.
    """
    from flatout.runs.runner import Runner, RunOptions

    from .execute import execute
    from .progress import choose

    options = RunOptions(
        source=source,
        output=output,
        run_file=run_file,
        format=format,
        encoding=encoding,
        prompt=text_or_file("--prompt", prompt),
        system=text_or_file("--system", system),
        params=params(param or ()),
        model=model,
        limit=limit,
        fresh=fresh,
        retry_failed=retry_failed,
        keep_prompts=not no_prompts,
        neutralise=neutralise,
        command=command_line(context.obj or ()),
    )
    make_client = _client_maker(
        limits=given(
            {
                "rpm": number("--rpm", rpm),
                "tpm": number("--tpm", tpm),
                "itpm": number("--itpm", itpm),
                "otpm": number("--otpm", otpm),
                "rpd": number("--rpd", rpd),
                "concurrency": concurrency,
                "adaptive": adaptive,
                "shared": share,
            }
        ),
        options=given(
            {
                "model": model,
                "base_url": base_url,
                "timeout": timeout,
                "deadline": deadline,
                "retries": retries,
                "budget": budget,
                "headers": headers(header or ()) or None,
                "config": config,
                "trust_env": trust_env,
                "wait_for_quota": wait_for_quota or None,
            }
        ),
    )
    display = choose(quiet=quiet, plain=plain, answers_on_stdout=output in (None, "-"))
    if output in (None, "-") and sys.stdout is None:
        raise ConfigError("standard output is closed: name a file for the answers with -o")
    runner = Runner(options, make_client)
    if not quiet and (what := _patience(source)):
        say(f"flatout: {what}")
    runner.prepare()
    before = Before.of(runner, options)
    if not quiet:
        say(announcement(runner.progress, options, before))
    try:
        outcome = execute(runner, display)
    except FlatoutError as error:
        if isinstance(error, ConfigError | RunMismatch) and not runner.progress.finished + runner.progress.held:
            raise  # of stdin, what cannot be used is found only now: still before anything was sent
        say(f"flatout: {clean(str(error))}")
        say(_kept(runner, options))
        return FAILED  # not the code for unusable options: calls were sent
    except BrokenPipeError:
        raise  # who reads the answers has seen enough
    except Exception:
        say(_kept(runner, options))
        raise
    return conclude(runner.progress, options, outcome, before, quiet=quiet)


def announcement(progress: Progress, options: RunOptions, before: Before) -> str:
    """What is about to happen, in one line."""
    from . import figures

    rows = "rows" if progress.total is None else figures.counted(progress.total, "row")
    what = [f"{rows} from {'stdin' if options.source == '-' else options.source}"]
    if options.model:
        what.append(f"to {options.model}")
    if before.finished:
        what.append(f"{figures.count(before.finished)} finished before")
    return clean(f"flatout: {', '.join(what)}")


def conclude(progress: Progress, options: RunOptions, outcome: Outcome, before: Before, *, quiet: bool) -> int:
    """Say how it ended, and return the exit code."""
    from .summary import details, failures, headline

    good = not (progress.failed or before.failed or outcome.unfinished or outcome.interrupted)
    told = headline(progress, outcome, before.failed)
    if not quiet:
        tell(told, details(progress, outcome))
    elif not good:
        tell(f"flatout: {told}", failures(progress))
    if outcome.interrupted or outcome.unfinished:
        say(f"To go on: {_go_on(options, outcome.run_file)}")
    elif (progress.failed or before.failed) and outcome.kept and not quiet:
        why = f"See why with: {shlex.join(['flatout', 'status', outcome.run_file])}. " if before.failed else ""
        say(f"{why}To ask again for the failed rows, run the same command with --retry-failed.")
    if outcome.interrupted:
        return INTERRUPTED
    return 0 if good else FAILED


def _kept(runner: Runner, options: RunOptions) -> str:
    return f"What was answered is kept in {runner.run_file}. To go on: {_go_on(options, str(runner.run_file))}"


def _go_on(options: RunOptions, run_file: str) -> str:
    command = options.command or "run the same command again"
    if options.source != "-":
        return command
    place = "" if options.output not in (None, "-") or options.run_file else f" --run-file {shlex.quote(run_file)}"
    return f"{command}{place}  (with the same standard input)"


def _patience(source: str) -> str:
    """What to say before something that takes its time."""
    if source == "-":
        return "reads prompts from the keyboard; Ctrl-D ends them" if is_live(sys.stdin) else ""
    try:
        large = Path(source).stat().st_size > _LARGE
    except (OSError, ValueError):
        return ""  # whoever opens it will say what is wrong
    return f"checks every row of {clean(source)} before the first call …" if large else ""


def _client_maker(limits: dict[str, Any], options: dict[str, Any]) -> Callable[[], Any]:
    """A function that makes the client, so that the runner decides when."""

    def make() -> Any:
        from flatout.client import Client
        from flatout.values import Limits

        return Client(**options, limits=Limits(**limits) if limits else None)

    return make
