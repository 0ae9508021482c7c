"""``flatout run``: a file of prompts in, a file of answers out."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatout.errors import ConfigError, FlatoutError, StoreError

from . import options
from .asked import Asked, option
from .exit_codes import FAILED, INTERRUPTED, UNDER_WAY
from .terminal import clean, is_live, say, sentence, tell

if TYPE_CHECKING:
    from flatout.progress._counters import Progress
    from flatout.progress._display import Display
    from flatout.runs.client_options import ClientOptions
    from flatout.runs.job import Lane, RunEnd, RunOptions
    from flatout.runs.runner import Runner

    from .before import Before

EPILOG = """\
[bold]Examples[/bold]

$ flatout run prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini
$ flatout run mails.csv -o out.csv -m local --prompt "Spam or ham? {{ text }}"
$ flatout run rows.jsonl -o out.jsonl -m groq/llama-3.3-70b-versatile \\
    --prompt @prompt.txt --rpm 10k --tpm 2M --budget 5
$ flatout run mails.csv -o labels.csv -m openai/gpt-5-mini \\
    --prompt "{{ text }}" --choices spam,ham
$ flatout run mails.csv -o shop.db::labels -m local \\
    --prompt "Spam or ham? {{ text }}"
$ flatout run prompts.jsonl -o both.csv -m openai/gpt-5-mini \\
    -m anthropic/claude-haiku-4-5 --samples 3
$ flatout run rows.jsonl -o o.jsonl -m any --base-url http://127.0.0.1:8000/v1
$ flatout run prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini \\
    --lane batch --detach
$ flatout run prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini \\
    --lane flex --within 6h
$ cat prompts.txt | flatout run - -m openai/gpt-5-mini > answers.jsonl

[bold]Keys[/bold] are read from the environment, never from the command line: OPENAI_API_KEY, \
ANTHROPIC_API_KEY, GEMINI_API_KEY and so on by provider; FLATOUT_API_KEY with --base-url.

[bold]Resuming[/bold]: after an interrupt, a crash or a used-up budget, run the same command again. Rows with an \
answer are never asked, or paid for, twice. See how a run is doing with: flatout status OUTPUT

[bold]Exit codes[/bold]: 0 all answered; 1 finished, but some rows have no answer; 2 unusable input or options, \
nothing was sent; 3 rows stand in batches; 130 interrupted.
"""

OPTIONS = (
    option("lane", options.Lane, "live"),
    option("within", options.Within, None),
    option("detach", options.Detach, False),
    option("keep_files", options.KeepFiles, False),
)
"""The options that other commands, which take those of a run, do not have."""

_LARGE = 20_000_000  # bytes; checking a smaller file takes less than a second or two
_LONG = 10.0  # seconds; why a shorter run was not faster interests nobody


def run(
    asked: Asked,
    *,
    lane: Lane = "live",
    within: str | None = None,
    detach: bool = False,
    keep_files: bool = False,
) -> int:
    """Run every prompt of a file: as fast as your limits allow, and never past them.

    One row in, one answer or named error out, in the same order.
    A run can be interrupted at any time, and continues where it was.
    """
    return begin(in_lane(asked, lane, within, detach=detach, keep_files=keep_files))


def in_lane(asked: Asked, lane: Lane, within: str | None, *, detach: bool, keep_files: bool) -> Asked:
    """What a command line asks for, with its options of lanes."""
    from msgspec.structs import replace

    from flatout.config.settings import age

    seconds = age("--within", within)
    return asked._replace(job=replace(asked.job, lane=lane, within=seconds, detach=detach, keep_files=keep_files))


def begin(asked: Asked) -> int:
    """Run a job, and report how it ended. Returns the exit code."""
    from . import logs
    from .before import Before
    from .progress import choose

    job, quiet = asked.job, asked.quiet
    runner = runner_of(asked)
    to_stdout = job.output in (None, "-")
    display = choose(str(runner.job.run_file), quiet=quiet, plain=asked.plain, answers_on_stdout=to_stdout)
    if not quiet and (what := _patience(job.source)):
        say(f"flatout: {what}")
    with logs.shown(0 if quiet else asked.verbose, once=job.workers > 1):
        runner.prepare()
        if runner.job.moved is not None and not quiet:
            say(f"flatout: the previous run is kept as {runner.job.moved}")
        before = Before.of(runner, job, fail_truncated=asked.fail_truncated)
        runner.progress.earlier = before.spent
        if not quiet:
            say(announcement(runner.progress, job, before, runner.job.destinations()))
        outcome = _executed(runner, job, display)
    if outcome is None:
        return FAILED  # not the code for an unusable job, because calls were sent
    return conclude(runner.progress, job, outcome, before, quiet=quiet)


def runner_of(asked: Asked) -> Runner:
    """The runner of a job.

    Raises:
        ConfigError: the answers have nowhere to go, or the run would use its own answers.
    """
    from flatout.runs.runner import Runner

    job = asked.job
    if job.output in (None, "-") and sys.stdout is None:
        raise ConfigError("standard output is closed: name a file for the answers with -o")
    runner = Runner(job, _client_maker(asked.made_with, quiet=asked.quiet), made_with=asked.made_with)
    if asked.earlier is not None and os.path.realpath(asked.earlier) == os.path.realpath(runner.job.run_file):
        raise ConfigError(f"--reuse {asked.reuse} is this run itself: write the new answers to another file, with -o")
    return runner


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
    from flatout.runs.input.names import shown
    from flatout.text import figures

    each = len(options.models or "1") * (options.samples or 1)
    calls = None if progress.total is None else progress.total - before.beyond
    rows = "rows" if calls is None else figures.counted(calls // each, "row")
    what = [f"{rows} from {'stdin' if options.source == '-' else shown(options.source)}"]
    if to:
        what.append(f"to {' and '.join(to)}")
    if options.samples:
        what.append(f"{options.samples} times each")
    if each > 1 and calls is not None:
        what[-1] += f": {figures.counted(calls, 'call')}"
    if before.finished:
        what.append(f"{figures.count(before.finished)} finished before")
    if before.beyond:
        what.append(f"{figures.count(before.beyond)} beyond the limit finished before")
    return clean(f"flatout: {', '.join(what)}")


def _waits_only(progress: Progress, outcome: RunEnd, before: Before) -> bool:
    """Whether a run was left with rows in batches, and nothing is wrong."""
    return outcome.under_way and not (progress.failed or progress.failed_before or before.unfit or progress.stopped)


def conclude(progress: Progress, options: RunOptions, outcome: RunEnd, before: Before, *, quiet: bool) -> int:
    """Report how the run ended, and return the exit code."""
    from flatout.text import figures

    from .summary import details, failures, headline

    failed_before = progress.failed_before  # but for those that were asked again
    good = not (progress.failed or failed_before or before.unfit or outcome.unfinished or outcome.interrupted)
    told = headline(progress, outcome)
    if not quiet:
        tell(told, details(progress, outcome, _pace(progress, outcome)))
    elif not good and not _waits_only(progress, outcome, before):
        tell(f"flatout: {told}", failures(progress))
    if outcome.under_way:
        if not quiet:
            say(f"To collect: {_how_to_continue(options, outcome.run_file)}")
    elif outcome.interrupted or outcome.unfinished:
        why = "The answers are not written yet. To write them" if outcome.unwritten else f"To continue{_when(progress)}"
        say(f"{why}: {_how_to_continue(options, outcome.run_file)}")
    elif (progress.failed or failed_before) and not quiet:
        if failed_before:
            say(f"See why with: {shlex.join(['flatout', 'status', outcome.run_file])}")
        say("To ask again for the failed rows, run the same command with --retry-failed.")
    elif before.unfit:
        cut_off = figures.counted(before.unfit, "answer")
        say(f"{cut_off} cut off by then, without --fail-truncated, cannot be asked for again: start over with --fresh.")
    elif good and progress.resumed and not progress.answered and not quiet:
        say("To ask all of them again, run the same command with --fresh.")
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.under_way:
        return UNDER_WAY
    return 0 if good else FAILED


def _when(progress: Progress) -> str:
    """What must change before a run with a used-up budget can go on; "" for any other run."""
    from flatout.text import figures

    if progress.budget is None or "BudgetExceeded" not in progress.failures:
        return ""
    return f", {figures.larger_budget(progress.budget.per)}"


def _pace(progress: Progress, outcome: RunEnd) -> str:
    """Why the run was not faster; "" if it was short."""
    from flatout.look.why import afterwards
    from flatout.store import RunReader

    if progress.elapsed < _LONG or not progress.answered:
        return ""
    try:
        with RunReader.open(outcome.run_file) as reader:
            found = afterwards(reader, time.time())
    except StoreError:
        return ""  # the run is over; its answers are what matters
    return found[0].text if found else ""


def _kept(runner: Runner, options: RunOptions) -> str:
    command = _how_to_continue(options, str(runner.job.run_file))
    return f"The answers so far are kept in {runner.job.run_file}. To continue: {command}"


def _how_to_continue(options: RunOptions, run_file: str) -> str:
    command = options.to_continue(run_file) or "run the same command again"
    return f"{command}  (with the same standard input)" if options.source == "-" else command


def _patience(source: str) -> str:
    """The note before a step that takes long."""
    if source == "-":
        return "reading prompts from the keyboard; Ctrl-D ends them" if is_live(sys.stdin) else ""
    from flatout.runs.input.names import is_elsewhere, shown

    try:
        slow = is_elsewhere(source) or Path(source).stat().st_size > _LARGE
    except (OSError, ValueError):
        return ""  # opening the file will report the error
    return f"checking every row of {clean(shown(source))} before the first call …" if slow else ""


def _client_maker(made_with: ClientOptions, *, quiet: bool) -> Callable[[], Any]:
    """A function that makes the client when the runner calls it. It reports which flatout.toml is in force."""

    def make() -> Any:
        from flatout.config.file import FoundConfig

        client = made_with.make()
        if not quiet and isinstance(client.config, FoundConfig):
            say(f"flatout: {clean(str(client.config))}")
        return client

    return make
