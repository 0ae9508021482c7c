"""``flatout run``: a file of prompts in, a file of answers out."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flatout.errors import ConfigError, FlatoutError, StoreError

from . import options
from .exit_codes import FAILED, INTERRUPTED
from .parse import (
    CACHE_FOLDER,
    budget_of,
    command_line,
    given,
    headers,
    number,
    output_of,
    params,
    port,
    text_or_file,
)
from .terminal import clean, is_live, say, sentence, tell

if TYPE_CHECKING:
    from flatout.runs.client_options import ClientOptions
    from flatout.runs.job import RunEnd, RunOptions
    from flatout.runs.runner import Runner
    from flatout.runs.story.progress import Progress

    from .before import Before
    from .progress import Display

EPILOG = """\
[bold]Examples[/bold]

$ flatout run prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini
$ flatout run mails.csv -o out.csv -m local --prompt "Spam or ham? {{ text }}"
$ flatout run rows.jsonl -o out.jsonl -m groq/llama-3.3-70b-versatile \\
    --prompt @prompt.txt --rpm 10k --tpm 2M --budget 5
$ flatout run mails.csv -o labels.csv -m openai/gpt-5-mini \\
    --prompt "{{ text }}" --choices spam,ham
$ flatout run prompts.jsonl -o both.csv -m openai/gpt-5-mini \\
    -m anthropic/claude-haiku-4-5 --samples 3
$ flatout run rows.jsonl -o o.jsonl -m any --base-url http://127.0.0.1:8000/v1
$ cat prompts.txt | flatout run - -m openai/gpt-5-mini > answers.jsonl

[bold]Keys[/bold] are read from the environment, never from the command line: OPENAI_API_KEY, \
ANTHROPIC_API_KEY, GEMINI_API_KEY and so on by provider; FLATOUT_API_KEY with --base-url.

[bold]Resuming[/bold]: after an interrupt, a crash or a used-up budget, run the same command again. Rows with an \
answer are never asked, or paid for, twice. See how a run is doing with: flatout status OUTPUT

[bold]Exit codes[/bold]: 0 all answered; 1 finished, but some rows have no answer; 2 unusable input or options, \
nothing was sent; 130 interrupted.
"""

_LARGE = 20_000_000  # bytes; checking a smaller file takes less than a second or two


def run(
    context: typer.Context,
    source: options.Source,
    output: options.Output = None,
    model: options.Model = None,
    prompt: options.Prompt = None,
    system: options.System = None,
    image: options.Image = None,
    nulls: options.Nulls = "error",
    same_prompt: options.SamePrompt = False,
    format: options.Format = None,
    encoding: options.Encoding = "utf-8",
    limit: options.Limit = None,
    param: options.Param = None,
    schema: options.Schema = None,
    choices: options.Choices = None,
    reasks: options.Reasks = None,
    fail_truncated: options.FailTruncated = False,
    samples: options.Samples = None,
    base_url: options.BaseUrl = None,
    header: options.Header = None,
    trust_env: options.TrustEnv = False,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    itpm: options.Itpm = None,
    otpm: options.Otpm = None,
    rpd: options.Rpd = None,
    burst: options.Burst = None,
    concurrency: options.Concurrency = None,
    adaptive: options.Adaptive = None,
    share: options.Share = None,
    wait_for_quota: options.WaitForQuota = False,
    budget: options.Budget = None,
    allow_unknown_price: options.AllowUnknownPrice = False,
    timeout: options.Timeout = None,
    first_byte: options.FirstByte = None,
    between_bytes: options.BetweenBytes = None,
    deadline: options.Deadline = None,
    retries: options.Retries = None,
    give_up: options.GiveUp = None,
    retry_share: options.RetryShare = None,
    repeats: options.Repeats = None,
    retry_failed: options.RetryFailed = False,
    cache: options.Cache = None,
    cache_max_age: options.CacheMaxAge = None,
    reuse: options.Reuse = None,
    prompt_cache: options.PromptCache = None,
    fresh: options.Fresh = False,
    run_file: options.RunFile = None,
    no_prompts: options.NoPrompts = False,
    overwrite: options.Overwrite = False,
    neutralise: options.Neutralise = False,
    workers: options.Workers = 1,
    otlp: options.Otlp = None,
    metrics: options.Metrics = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
    plain: options.Plain = False,
    verbose: options.Verbose = 0,
) -> int:
    """Run every prompt of a file: as fast as your limits allow, and never past them.

    One row in, one answer or named error out, in the same order.
    A run can be interrupted at any time, and continues where it was.
    """
    from flatout.runs.job import RunOptions
    from flatout.runs.runner import Runner
    from flatout.values.secret import conceal

    from . import logs
    from .before import Before
    from .progress import choose
    from .run_names import find

    models = tuple(model or ())
    job = RunOptions(
        source=source,
        output=output,
        run_file=run_file,
        format=format,
        encoding=encoding,
        prompt=text_or_file("--prompt", prompt),
        system=text_or_file("--system", system),
        images=tuple(image or ()),
        nulls=nulls,
        same_prompt=same_prompt,
        params={**params(param or ()), **output_of(schema, choices)},
        model=models[0] if len(models) == 1 else None,
        models=models if len(models) > 1 else None,
        samples=samples,
        limit=limit,
        fresh=fresh,
        retry_failed=retry_failed,
        keep_prompts=not no_prompts,
        overwrite=overwrite,
        neutralise=neutralise,
        command=command_line(context.obj or ()),
        otlp=conceal(otlp),
        metrics=port("--metrics", metrics),
        workers=workers,
    )
    earlier = None if reuse is None else find(reuse)
    made_with = _client_options(
        limits=given(
            {
                "rpm": number("--rpm", rpm),
                "tpm": number("--tpm", tpm),
                "itpm": number("--itpm", itpm),
                "otpm": number("--otpm", otpm),
                "rpd": number("--rpd", rpd),
                "burst": burst,
                "concurrency": concurrency,
                "adaptive": adaptive,
                "shared": share,
            }
        ),
        options=given(
            {
                "model": models[0] if models else None,
                "base_url": base_url,
                "timeout": timeout,
                "first_byte": first_byte,
                "between_bytes": between_bytes,
                "deadline": deadline,
                "retries": retries,
                "give_up": give_up,
                "retry_share": retry_share,
                "repeats": repeats,
                "reasks": reasks,
                "budget": budget_of(budget),
                "allow_unknown_price": allow_unknown_price or None,
                "headers": headers(header or ()) or None,
                "config": config,
                "trust_env": trust_env,
                "wait_for_quota": wait_for_quota or None,
                "fail_truncated": fail_truncated or None,
                "cache": cache if cache != CACHE_FOLDER else True,
                "cache_max_age": cache_max_age,
                "reuse": earlier and str(earlier),
                "prompt_cache": prompt_cache,
            }
        ),
    )
    display = choose(quiet=quiet, plain=plain, answers_on_stdout=output in (None, "-"))
    if output in (None, "-") and sys.stdout is None:
        raise ConfigError("standard output is closed: name a file for the answers with -o")
    runner = Runner(job, _client_maker(made_with, quiet=quiet), made_with=made_with)
    if earlier is not None and os.path.realpath(earlier) == os.path.realpath(runner.run_file):
        raise ConfigError(f"--reuse {reuse} is this run itself: write the new answers to another file, with -o")
    if not quiet and (what := _patience(source)):
        say(f"flatout: {what}")
    with logs.shown(0 if quiet else verbose, once=workers > 1):
        runner.prepare()
        if runner.moved is not None and not quiet:
            say(f"flatout: the previous run is kept as {runner.moved}")
        before = Before.of(runner, job, fail_truncated=fail_truncated)
        runner.progress.earlier = before.spent
        if not quiet:
            say(announcement(runner.progress, job, before, runner.destinations()))
        outcome = _executed(runner, job, display)
    if outcome is None:
        return FAILED  # not the code for an unusable job, because calls were sent
    return conclude(runner.progress, job, outcome, before, quiet=quiet)


def _executed(runner: Runner, job: RunOptions, display: Display) -> RunEnd | None:
    """Run to the end; None if an error ended the run, which this function has reported."""
    from .execute import execute

    try:
        return execute(runner, display)
    except FlatoutError as error:
        if isinstance(error, ConfigError | StoreError) and not runner.sent:
            raise  # unusable standard input is found only now, still before anything was sent
        say(f"flatout: {sentence(error)}")
        say(_kept(runner, job))
        return None
    except BrokenPipeError:
        raise  # the reader of the answers has seen enough
    except Exception:
        say(_kept(runner, job))
        raise


def announcement(progress: Progress, options: RunOptions, before: Before, to: Sequence[str]) -> str:
    """One line that says what the run will do.

    Args:
        progress: the run's numbers.
        options: the run's options.
        before: the work of earlier processes.
        to: the destinations of the calls.
    """
    from . import figures

    each = len(options.models or "1") * (options.samples or 1)
    rows = "rows" if progress.total is None else figures.counted(progress.total // each, "row")
    what = [f"{rows} from {'stdin' if options.source == '-' else options.source}"]
    if to:
        what.append(f"to {' and '.join(to)}")
    if options.samples:
        what.append(f"{options.samples} times each")
    if each > 1 and progress.total is not None:
        what[-1] += f": {figures.counted(progress.total, 'call')}"
    if before.finished:
        what.append(f"{figures.count(before.finished)} finished before")
    return clean(f"flatout: {', '.join(what)}")


def conclude(progress: Progress, options: RunOptions, outcome: RunEnd, before: Before, *, quiet: bool) -> int:
    """Report how the run ended, and return the exit code."""
    from . import figures
    from .summary import details, failures, headline

    good = not (progress.failed or before.failed or before.unfit or outcome.unfinished or outcome.interrupted)
    told = headline(progress, outcome, before.failed)
    if not quiet:
        tell(told, details(progress, outcome))
    elif not good:
        tell(f"flatout: {told}", failures(progress))
    if outcome.interrupted or outcome.unfinished:
        say(f"To continue: {_how_to_continue(options, outcome.run_file)}")
    elif (progress.failed or before.failed) and not quiet:
        if before.failed:
            say(f"See why with: {shlex.join(['flatout', 'status', outcome.run_file])}")
        say("To ask again for the failed rows, run the same command with --retry-failed.")
    elif before.unfit:
        cut_off = figures.counted(before.unfit, "answer")
        say(f"{cut_off} cut off by then, without --fail-truncated, cannot be asked for again: start over with --fresh.")
    elif good and progress.resumed and not progress.answered and not quiet:
        say("To ask all of them again, run the same command with --fresh.")
    if outcome.interrupted:
        return INTERRUPTED
    return 0 if good else FAILED


def _kept(runner: Runner, options: RunOptions) -> str:
    command = _how_to_continue(options, str(runner.run_file))
    return f"The answers so far are kept in {runner.run_file}. To continue: {command}"


def _how_to_continue(options: RunOptions, run_file: str) -> str:
    command = options.to_continue(run_file) or "run the same command again"
    return f"{command}  (with the same standard input)" if options.source == "-" else command


def _patience(source: str) -> str:
    """The note before a step that takes long."""
    if source == "-":
        return "reading prompts from the keyboard; Ctrl-D ends them" if is_live(sys.stdin) else ""
    try:
        large = Path(source).stat().st_size > _LARGE
    except (OSError, ValueError):
        return ""  # opening the file will report the error
    return f"checking every row of {clean(source)} before the first call …" if large else ""


def _client_options(limits: dict[str, Any], options: dict[str, Any]) -> ClientOptions:
    """The options of the client, and of each worker's."""
    from flatout.runs.client_options import ClientOptions
    from flatout.values import Limits

    return ClientOptions(options, Limits(**limits) if limits else None)


def _client_maker(made_with: ClientOptions, *, quiet: bool) -> Callable[[], Any]:
    """A function that makes the client when the runner calls it. It reports which flatout.toml is in force."""

    def make() -> Any:
        from flatout.config.file import FoundConfig

        client = made_with.make()
        if not quiet and isinstance(client.config, FoundConfig):
            say(f"flatout: {clean(str(client.config))}")
        return client

    return make
