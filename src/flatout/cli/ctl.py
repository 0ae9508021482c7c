"""``flatout ctl``: steers a run while it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatout.errors import ConfigError, StoreError
from flatout.text import figures

from .programs import is_steered, name_of
from .run_names import RunName, find
from .terminal import clean, say, show_json

if TYPE_CHECKING:
    from flatout.store import Holder

EPILOG = """\
[bold]Examples[/bold]

$ flatout ctl answers.jsonl status        # one JSON object
$ flatout ctl answers.jsonl pause         # calls in flight finish
$ flatout ctl answers.jsonl resume
$ flatout ctl answers.jsonl set rpm=6000 tpm=2M concurrency=64
$ flatout ctl answers.jsonl set rpm=none  # unknown: found by trying
$ flatout ctl answers.jsonl set rpm=600 --target openai/gpt-5-mini
$ flatout ctl answers.jsonl set budget=8 deadline=2h
$ flatout ctl answers.jsonl skip 17       # a row by its number or id
$ flatout ctl answers.jsonl retry-failed  # ask failed rows again, now
$ flatout ctl answers.jsonl drain         # finish calls in flight, stop
$ flatout ctl answers.jsonl stop          # like Ctrl-C

A change holds at once, until the run ends. The run file keeps it, with the time and who made it.
"""

COMMANDS = ("status", "pause", "resume", "set", "skip", "retry-failed", "drain", "stop")

_LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "concurrency")
_UNKNOWN = ("none", "unknown")

PATIENCE = 5.0
"""Seconds for which a run that is just starting is waited for."""

MOMENT = 1.5
"""Seconds for which a run that is not finished is waited for: a command may just be starting that continues it."""

_PAUSE = 0.1
"""Seconds between two looks for it."""

_REACHED = {
    "steered": "has lost its socket, which somebody has removed; Ctrl-C or a signal still stops it",
    "unheard": "cannot be steered: there can be no socket for it; Ctrl-C or a signal still stops it",
    "over": "asks nothing any more, and writes its output: there is nothing to steer",
    "plan": "is being planned: flatout plan asks a sample, and cannot be steered",
    "cancel": "has its batches cancelled, and cannot be steered meanwhile",
}
"""What is said of a process that is not reached, by how it can be: see `flatout.runs.job.Reach`."""


def ctl(
    run: RunName,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help=f"What to do: {', '.join(COMMANDS)}.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VALUE]", help="For set: NAME=VALUE, a limit, budget or deadline. For skip: the row."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="For set: the one target whose limits change.")
    ] = None,
) -> int:
    """Steer a run while it goes: change its limits, pause it, skip a row, stop it.

    It works on a run of this machine that is under way, by a socket that only you may use; on a gateway, by its run
    file; and on a program whose client was made with control=PATH: name that path.
    """
    from flatout.control.place import SUFFIX

    if command not in COMMANDS:
        raise ConfigError(f"flatout ctl knows {', '.join(COMMANDS)}, not {command!r}")
    given = values or []
    if command != "set" and target is not None:
        raise ConfigError("--target is for set, as in: set rpm=600 --target openai/gpt-5-mini")
    if command not in ("set", "skip") and given:
        raise ConfigError(f"{command} takes no values: values are for set, as in: set rpm=6000")

    def request(run_file: Path) -> dict[str, Any]:
        what = _wanted(given, target) if command == "set" else _row(run_file, given) if command == "skip" else {}
        return {"do": command, **what}

    answer = _answer(Path(run.removesuffix(SUFFIX)), request)
    if command == "status":
        show_json({name: value for name, value in answer.items() if name not in ("ok", "do")})
    else:
        say(f"flatout: {_said(command, run, answer)}")
    return 0


def _steered(name: Path) -> Path:
    """The run file that a name means; or the name itself, if a program is steered by it."""
    run_file = find(str(name), steered=True)
    return name if not is_steered(run_file) and is_steered(name) else run_file


def _row(run_file: Path, given: list[str]) -> dict[str, Any]:
    """The row to skip, by its number or its id.

    Raises:
        ConfigError: it has its result already.
    """
    from flatout.store import RunReader

    if len(given) != 1:
        raise ConfigError("skip takes one row, by its number or its id, as in: skip 17")
    name = given[0]
    with suppress(StoreError), RunReader.open(run_file) as reader:
        total = reader.info().total
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0
        is_number = number > 0 and (total is None or number <= total)
        index = number - 1 if is_number else next(iter(reader.named(name, 1)), None)
        item = None if index is None else reader.item(index)
        if item is not None and item.state != "unsent":
            raise ConfigError(f"row {clean(name, 60)} has its result already: it is {item.error or item.state}")
        return {"row": number if is_number else name}
    return {"row": name}


def _answer(name: Path, request: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What the run answers to a request, with the request. A run that is just starting gets a few seconds.

    Raises:
        ConfigError: nothing can be steered; the message says why, and what to do instead.
    """
    from flatout.control.asking import NotUnderWay, ask

    run_file, began, told = _steered(name), time.monotonic(), False
    while True:
        asked = request(run_file)
        try:
            return asked | ask(run_file, asked)
        except NotUnderWay:
            why, patience = _why_not(run_file, asked["do"])
            if time.monotonic() >= began + patience:
                raise ConfigError(why) from None
        if not told and patience == PATIENCE:
            say(f"flatout: {why}; waiting up to {PATIENCE:g} s")
            told = True
        time.sleep(_PAUSE)
        if not run_file.exists():
            run_file = _steered(name)


def _why_not(run_file: Path, command: str) -> tuple[str, float]:
    """Why a run cannot be steered now, and what to do instead; and for how many seconds to wait until it can."""
    from flatout.runs.job import REACH
    from flatout.store import RunNotBegun, RunReader
    from flatout.store.gateway import JOB

    not_yet = f"there is no run of {run_file} yet"
    if not run_file.exists():
        return not_yet, PATIENCE
    try:
        with RunReader.open(run_file) as reader:
            info, holder = reader.info(), reader.holder()
            again = info.command
            if holder is None and info.job == JOB:
                return f"the gateway of {run_file} does not serve: flatout serve starts it", 0.0
            if holder is None:
                return _is_over(run_file, command, again), 0.0 if info.state == "finished" or not again else MOMENT
            if again is None:
                return _of_program(run_file, holder, command), 0.0
            return _of_run(run_file, holder, reader.fact(REACH))
    except RunNotBegun:
        return not_yet, PATIENCE
    except StoreError:
        return _is_over(run_file, command, None), 0.0


def _of_run(run_file: Path, holder: Holder, fact: Any) -> tuple[str, float]:
    """What the process does that writes a run file, and for how many seconds to wait until it can be steered."""
    from msgspec import ValidationError, convert

    from flatout.runs.job import Reach

    run = f"the run of {run_file} ({holder})"
    if holder.is_elsewhere:
        return f"{run} is under way on another machine: steer it there", 0.0
    with suppress(ValidationError):
        if (reach := convert(fact, Reach)).process == holder.pid:
            return f"{run} {_REACHED[reach.how]}", PATIENCE if reach.how == "steered" else 0.0
    return f"{run} is starting: it reads its input", PATIENCE


def _of_program(run_file: Path, holder: Holder, command: str) -> str:
    name = name_of(run_file, holder.pid)
    how = f"as {name}: flatout ctl {name} {command}" if name else "by the name that its client has as control="
    return f"a program writes {run_file} ({holder}), and is steered {how}"


def _is_over(run_file: Path, command: str, again: str | None) -> str:
    nothing = f"no run of {run_file} is under way: there is nothing to steer"
    if command == "retry-failed" and again:
        more = "" if "--retry-failed" in again else " --retry-failed"
        return f"the run is over; to ask its failed rows again: {clean(again)}{more}"
    if command in ("set", "resume") and again:
        return f"{nothing}; to continue it with other options, add them to: {clean(again)}"
    return nothing


def _wanted(values: list[str], target: str | None) -> dict[str, Any]:
    """What is to be set, by its name."""
    if not values:
        raise ConfigError("set takes names with values, as in: set rpm=6000 budget=8")
    wanted: dict[str, Any] = {} if target is None else {"target": target}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"set takes names with values, such as rpm=6000, not {text!r}")
        wanted[name.strip()] = _value(name.strip(), value.strip())
    return wanted


def _value(name: str, text: str) -> float | None:
    """A value as the options of ``flatout run`` take it."""
    from flatout.config.settings import age

    from .parse import budget_of, number

    if name in _LIMITS:
        value = None if text.lower() in _UNKNOWN else number(name, text)
        return int(value) if name == "concurrency" and value is not None and value.is_integer() else value
    if name == "deadline":
        return age(name, text)
    if name == "budget":
        budget = budget_of(text)
        if not isinstance(budget, int | float):
            raise ConfigError(f"budget is an amount in US dollars here, such as 8, not {text!r}")
        return budget
    raise ConfigError(f"{name} cannot be set: set {', '.join(_LIMITS)}, budget or deadline")


def _said(command: str, run: str, answer: dict[str, Any]) -> str:
    """What was done, in a sentence, and how to undo it."""
    flying = f"{figures.counted(int(answer.get('in_flight') or 0), 'call')} in flight"
    if command == "pause":
        return f"paused; {flying} may finish, deadlines go on. To go on: flatout ctl {clean(run)} resume"
    if command == "resume":
        return "resumed" if answer["state"] == "running" else f"the run is {answer['state']}"
    if command in ("stop", "drain"):
        if answer.get("batches"):
            return _leaving(run, answer)
        if (grace := answer.get("grace")) is not None:
            return f"{answer['state']}: {flying} may finish, for {grace:g} s at most; flatout serve starts it again"
        if answer.get("dropped"):
            return f"{answer['state']}: {flying} dropped, perhaps paid for; give the run's command again to continue it"
        long = ", however long they take" if answer["state"] == "draining" else ""
        return f"{answer['state']}: {flying} may finish{long}; give the run's command again to continue it"
    if command == "skip":
        row = clean(str(answer["row"]), 60)
        if not answer.get("exists", True):
            return f"row {row} will be skipped if it comes: nobody knows all rows yet, which come through a pipe"
        how = "it was under way, and is dropped" if answer["under_way"] else "it is not asked when its turn comes"
        return f"row {row} is skipped: {how}. To ask it after all: flatout ctl {clean(run)} retry-failed"
    if command == "retry-failed":
        rows = figures.counted(int(answer["rows"]), "row")
        return f"asking again now: {rows} that failed so far, and those that failed in earlier runs"
    return f"set; in force now: {'; '.join(_in_force(answer))}"


def _in_force(answer: dict[str, Any]) -> Iterator[str]:
    if answer.get("budget") is not None:
        yield f"budget {clean(str(answer['budget']))}"
    if answer.get("deadline") is not None:
        yield f"deadline {figures.duration(answer['deadline'])} a call"
    yield from (_limits(name, found) for name, found in answer["limits"].items())


def _leaving(run: str, answer: dict[str, Any]) -> str:
    """What becomes of open batches."""
    open_, rows = figures.counted(int(answer["batches"]), "batch"), figures.counted(int(answer["rows"]), "row")
    if answer["state"] == "draining":
        leave = f"flatout ctl {clean(run)} stop leaves them there"
        return f"draining: waits for {open_} with {rows}, and submits no more; {leave}"
    return f"detached: {open_} with {rows} at the provider go on; give the run's command again to collect them"


def _limits(target: str, found: dict[str, float]) -> str:
    known = ", ".join(f"{name} {value:,g}" for name, value in found.items()) or "no known limit"
    return f"{clean(target)}: {known}" if target else known
