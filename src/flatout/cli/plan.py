"""``flatout plan``: what a run will cost and how long it will take."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from flatout.errors import ConfigError
from flatout.text import figures

from . import options
from .asked import Asked, option
from .exit_codes import FAILED, INTERRUPTED
from .parse import number
from .run import OPTIONS as OF_A_LANE
from .run import begin, in_lane, runner_of
from .terminal import clean, is_live, say, sentence, show, show_json

if TYPE_CHECKING:
    from flatout.runs.job import Lane
    from flatout.runs.plan.planner import Planner
    from flatout.values.plan import Plan

EPILOG = """\
[bold]Examples[/bold]

$ flatout plan prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini
$ flatout plan mails.csv -o labels.csv -m openai/gpt-5-mini \\
    -m anthropic/claude-haiku-4-5 --prompt "{{ text }}" --choices spam,ham
$ flatout plan prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini --dry-run
$ flatout plan sample.jsonl -o answers.jsonl -m openai/gpt-5-mini \\
    --rpm 10k --rows 100M
$ flatout plan prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini \\
    --confirm-above 10
$ flatout plan prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini \\
    --lane auto --within 24h

[bold]The sample is kept[/bold]: run the same command with [bold]run[/bold] in the place of [bold]plan[/bold], and \
its rows are not asked again.

[bold]Exit codes[/bold]: 0 planned; 1 no answer in the sample, or the run was not confirmed; 2 unusable input or \
options, nothing was sent; 130 interrupted. With --yes or --confirm-above, those of flatout run.
"""

OPTIONS = (
    *OF_A_LANE,
    option("sample", options.Sample, "50"),
    option("sample_budget", options.SampleBudget, 1.0),
    option("dry_run", options.DryRun, False),
    option("rows", options.PlannedRows, None),
    option("yes", options.Yes, False),
    option("confirm_above", options.ConfirmAbove, None),
    option("json", options.AsJson, False),
)
"""The options of lanes, and those that a run does not have."""


def plan(
    asked: Asked,
    *,
    lane: Lane,
    within: str | None,
    detach: bool,
    keep_files: bool,
    sample: str,
    sample_budget: float,
    dry_run: bool,
    rows: str | None,
    yes: bool,
    confirm_above: float | None,
    json: bool,
) -> int:
    """Say what a run will cost and how long it will take.

    Asks a sample of the rows, and keeps the answers: the run does not pay for them again.
    Takes all options of flatout run.
    """
    from msgspec.structs import replace

    from flatout.planning.calls import NothingLeft

    goes_on = yes or confirm_above is not None
    if dry_run and goes_on:
        raise ConfigError(
            "--dry-run asks nothing, so it cannot go on with the run: leave out --yes and --confirm-above"
        )
    if rows is not None and goes_on:
        raise ConfigError("--rows plans for rows that are not here, so it cannot go on with the run")
    asked = in_lane(asked, lane, within, detach=detach, keep_files=keep_files)
    if dry_run:
        asked = asked._replace(made_with=replace(asked.made_with, sends=False))
    planner = _planner(asked, sample, sample_budget, dry_run=dry_run, rows=number("--rows", rows))
    try:
        made = _planned(planner, asked)
    except NothingLeft as nothing:
        say(f"flatout: {sentence(nothing)}")
        return begin(asked) if goes_on else 0
    if made is None:
        return INTERRUPTED
    _tell(made, json=json, beside_answers=goes_on and asked.job.output in (None, "-"))
    if made.measured and made.left and not any(model.input_tokens is not None for model in made.models):
        return FAILED
    if not goes_on:
        return 0
    if yes or _confirmed(made, confirm_above or 0.0):
        return begin(asked)
    say(f"flatout: {_kept(made, planner)}")
    return FAILED


def _planner(asked: Asked, sample: str, usd: float, *, dry_run: bool, rows: float | None) -> Planner:
    from flatout.planning.size import SampleSize
    from flatout.runs.plan.planner import Planner

    whole = None if rows is None else round(rows)
    return Planner(runner_of(asked), SampleSize.of(sample), usd, dry_run=dry_run, rows=whole)


def _planned(planner: Planner, asked: Asked) -> Plan | None:
    """The plan; None if it was interrupted."""
    from . import logs
    from .progress import choose

    display = choose(str(planner.run_file), quiet=asked.quiet, plain=asked.plain, answers_on_stdout=False)
    with logs.shown(0 if asked.quiet else asked.verbose):
        planner.prepare()
        return _executed(planner, display)


def _executed(planner: Planner, display: Any) -> Plan | None:
    from .execute import execute

    made = execute(planner, display)
    if made is None:
        say("flatout: interrupted; the answers so far are kept, and the same command goes on")
    return made


def _tell(made: Plan, *, json: bool, beside_answers: bool) -> None:
    """Print the plan: to standard output, unless the answers of the run will go there."""
    from .plan_text import lines

    if json and not beside_answers:
        import msgspec

        show_json(msgspec.to_builtins(made))
    elif beside_answers:
        say("\n".join(lines(made)))
    else:
        show("\n".join(lines(made)), fit=True)


def _kept(made: Plan, planner: Planner) -> str:
    """What a job that does not go on leaves."""
    return (
        f"{clean(str(planner.run_file))} keeps the {figures.counted(made.finished, 'answer')} so far: this job goes on "
        "from there, whenever it is run; to run another one in its place, add --fresh or name another file with -o"
    )


def _confirmed(made: Plan, most: float) -> bool:
    """Whether the run may go on: it is cheap enough, or the user says so."""
    from .plan_text import money

    if made.cost is not None and made.cost.p90 <= most:
        return True
    what = "an unknown amount" if made.cost is None else money(made.cost)
    if not is_live(sys.stdin):
        say(f"flatout: not run: it may cost {what}, and nobody is here to confirm that; --yes goes on all the same")
        return False
    import typer

    return bool(typer.confirm(f"Go on, for {what}?", default=False, err=True))
