"""``flatout serve key``: the local keys of the gateway."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flatout.errors import ConfigError

from .parse import budget_of, number
from .terminal import clean, say, show, show_json

if TYPE_CHECKING:
    from flatout.serve.callers import Allowed
    from flatout.values.budget import Budget

HELP = "The local keys of the gateway, with a budget and limits each. Once there is one, every client needs one."

ADD_EPILOG = """\
[bold]Examples[/bold]

$ flatout serve key add team-a
$ flatout serve key add team-b --budget 20/day --rpm 600
$ flatout serve key add nightly --priority low --concurrency 8
$ flatout serve key add prometheus --sees-all
"""

LS_EPILOG = """\
[bold]Examples[/bold]

$ flatout serve key ls
$ flatout serve key ls --json
"""

RM_EPILOG = """\
[bold]Example[/bold]

$ flatout serve key rm team-a     # holds within a second
"""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")]


def add(
    name: Name,
    budget: Annotated[
        str | None,
        typer.Option(metavar="USD", help="The most that its calls may cost, in US dollars: 20/day, 100/month, 5."),
    ] = None,
    rpm: Annotated[str | None, typer.Option(metavar="N", help="The most calls per minute: 600, 10k.")] = None,
    concurrency: Annotated[int | None, typer.Option(metavar="N", min=1, help="The most calls at once.")] = None,
    priority: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The highest priority that its calls may have: high, normal, low."),
    ] = None,
    weight: Annotated[int, typer.Option(metavar="N", min=1, help="How many of its calls go when it is its turn.")] = 1,
    sees_all: Annotated[
        bool,
        typer.Option(
            "--sees-all", metavar="", help="Show it all callers in /status and /metrics: for Prometheus, say."
        ),
    ] = False,
    files: Annotated[
        str | None,
        typer.Option(metavar="GB", help="The most gigabytes of files that it may keep for batches: 20. Otherwise 10."),
    ] = None,
) -> int:
    """Make a key. It is shown once; only its digest is kept."""
    from flatout.errors import InvalidRequest
    from flatout.serve import keys
    from flatout.serve.callers import Allowed
    from flatout.serve.calls import priority_of

    if not (name.strip() and name.isprintable() and len(name) <= 100):
        raise ConfigError(f"a key's name is a short word, not {name!r}")
    try:
        highest = None if priority is None else priority_of(priority)
    except InvalidRequest as error:
        raise ConfigError(str(error).replace("x-flatout-priority", "--priority")) from None
    gigabytes = number("--files", files)
    most = None if gigabytes is None else round(gigabytes * 1e9)
    allowed = Allowed(_budget(budget, name), number("--rpm", rpm), concurrency, highest, weight, sees_all, most)
    made = keys.add(name, allowed, keys.place())
    show(made)
    say(f"flatout: the key of {clean(name)} is shown this once. Clients send it as their API key.")
    if allowed.budget is not None:
        say("flatout: calls whose price is not known are refused under a budget; flatout serve names such models")
    return 0


def ls(
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="As JSON, for scripts.")] = False,
) -> int:
    """List the keys' names, and what each may do."""
    from flatout.serve import keys

    found = keys.read(keys.place())
    if as_json:
        show_json([{"name": each.name, "made": each.made, **_as_json(each.allowed)} for each in found])
        return 0
    if not found:
        show("There is no key: programs of this machine need none. flatout serve key add NAME makes one.")
    for each in found:
        made = time.strftime("%Y-%m-%d", time.localtime(each.made))
        show(f"{clean(each.name)}: {_in_words(each.allowed)}; made {made}", fit=True)
    return 0


def rm(name: Name) -> int:
    """Remove a key. A gateway that serves refuses it within a second."""
    from flatout.serve import keys

    keys.remove(name, keys.place())
    say(f"flatout: the key of {clean(name)} is removed")
    return 0


def _budget(text: str | None, name: str) -> Budget | None:
    from flatout.values.budget import Budget

    given = budget_of(text)
    if given is None:
        return None
    budget = given if isinstance(given, Budget) else Budget(given)
    return budget if budget.scope is not None else Budget(budget.usd, budget.per, f"key {name}")


def _as_json(allowed: Allowed) -> dict[str, object]:
    from msgspec import to_builtins

    made: dict[str, object] = to_builtins(allowed)
    return made


def _in_words(allowed: Allowed) -> str:
    parts = [
        None if allowed.budget is None else f"budget {allowed.budget}",
        None if allowed.rpm is None else f"{allowed.rpm:,g} calls a minute",
        None if allowed.concurrency is None else f"{allowed.concurrency:,} at once",
        None if allowed.priority is None else f"priority at most {allowed.priority:g}",
        None if allowed.weight == 1 else f"weight {allowed.weight}",
        "sees all callers" if allowed.sees_all else None,
        None if allowed.files is None else f"{allowed.files / 1e9:,g} GB of files",
    ]
    return ", ".join(filter(None, parts)) or "no bounds of its own"
