"""``flatout ctl``: steers a run while it goes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flatout.errors import ConfigError
from flatout.text import figures

from .run_names import RunName, find
from .terminal import clean, say, show_json

EPILOG = """\
[bold]Examples[/bold]

$ flatout ctl answers.jsonl status        # one JSON object
$ flatout ctl answers.jsonl pause         # calls in flight finish
$ flatout ctl answers.jsonl resume
$ flatout ctl answers.jsonl set rpm=6000 tpm=2M concurrency=64
$ flatout ctl answers.jsonl set rpm=none  # unknown: found by trying
$ flatout ctl answers.jsonl set rpm=600 --target openai/gpt-5-mini
$ flatout ctl answers.jsonl set budget=8 deadline=2h
$ flatout ctl answers.jsonl drain         # finish calls in flight, stop
$ flatout ctl answers.jsonl stop          # like Ctrl-C

A change holds at once, until the run ends. The run file keeps it, with the time and who made it.
"""

COMMANDS = ("status", "pause", "resume", "set", "drain", "stop")

_LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "concurrency")
_UNKNOWN = ("none", "unknown")


def ctl(
    run: RunName,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help=f"What to do: {', '.join(COMMANDS)}.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]", help="For set: a limit, budget or deadline."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="For set: the one target whose limits change.")
    ] = None,
) -> int:
    """Steer a run while it goes: change its limits, pause it, stop it.

    It works on a run of this machine that is under way, by a socket that only you may use.
    """
    from flatout.control.asking import ask

    if command not in COMMANDS:
        raise ConfigError(f"flatout ctl knows {', '.join(COMMANDS)}, not {command!r}")
    if command != "set" and (values or target is not None):
        raise ConfigError(f"{command} takes no values: values are for set, as in: set rpm=6000")
    asked = _wanted(values or [], target) if command == "set" else {}
    answer = ask(find(run), {"do": command, **asked})
    if command == "status":
        show_json({name: value for name, value in answer.items() if name != "ok"})
    else:
        say(f"flatout: {_said(command, run, answer)}")
    return 0


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
        long = ", however long they take" if answer["state"] == "draining" else ""
        return f"{answer['state']}: {flying} may finish{long}; give the run's command again to continue it"
    limits = (_limits(name, found) for name, found in answer["limits"].items())
    return f"set; in force now: {'; '.join(limits)}"


def _limits(target: str, found: dict[str, float]) -> str:
    known = ", ".join(f"{name} {value:,g}" for name, value in found.items()) or "no known limit"
    return f"{clean(target)}: {known}" if target else known
