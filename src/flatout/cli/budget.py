"""``flatout budget``: what is spent of the budgets that processes share, who holds the rest, and how to mend one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatout.text import figures

from .terminal import Fact, clean, lay_out, say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flatout.values.accounts import Account, Lent

HELP = "Look at the budgets that processes share (--budget 20/day:team), and mend one."

LS_EPILOG = """\
[bold]Examples[/bold]

$ flatout budget ls           # spent, lent to whom, left, until when
$ flatout budget ls --json
"""

SET_EPILOG = """\
[bold]Examples[/bold]

$ flatout budget set day:team --spent 3.20   # as the provider's bill says
$ flatout budget set month --spent 0         # --budget 100/month: no name
"""


def ls(
    place: Annotated[
        str | None,
        typer.Argument(metavar="[ADDRESS]", help="Where they are: redis://host:6379/0/team; default this machine."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="As JSON, for scripts.")] = False,
) -> int:
    """Show what is spent of each budget, what processes have borrowed, and what is left until when."""
    from flatout.budgets import accounts
    from flatout.values.place import redis_place

    found = list(accounts(None if place is None else redis_place(place, "budgets")))
    if place is None:
        found += _untouched(found)
    if as_json:
        show_json([_for_scripts(account) for account in found])
        return 0
    if not found:
        where, scope = ("", "team") if place is None else (f" at {clean(place)}", clean(place))
        show(f"No budget is shared{where}: give one as --budget 20/day:{scope}.")
    for account in found:
        show(_headline(account), fit=True)
        show("\n".join(lay_out(_facts(account))), fit=True)
    return 0


def set_(
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="The budget: day:NAME, month:NAME or run:NAME.")],
    spent: Annotated[float, typer.Option(metavar="USD", min=0.0, help="What is spent in this period, in US dollars.")],
) -> int:
    """Set what is spent of a budget in this day or month, and take back what processes had borrowed that have died."""
    from flatout.budgets import mend
    from flatout.errors import ConfigError

    per, _, name = scope.partition(":")
    if per not in ("run", "day", "month") or not spent < float("inf"):
        raise ConfigError(f"a budget is day:NAME, month:NAME or run:NAME, and --spent a number, not {scope!r} {spent}")
    account = mend(per, name or "default", spent)
    say(f"flatout: {_headline(account)}")
    return 0


def _untouched(known: Iterable[Account]) -> Iterator[Account]:
    """The budgets of the gateway's keys, on this machine, from which nobody has borrowed yet."""
    from flatout.serve import keys
    from flatout.values.accounts import Account, end_of
    from flatout.values.place import is_place

    names = {(account.per, account.scope) for account in known}
    for budget in filter(None, (key.allowed.budget for key in keys.read(keys.place()))):
        name = budget.per, budget.shared or ""
        if name not in names and not is_place(name[1]):
            names.add(name)  # several keys may share one
            yield Account(*name, budget.usd, 0.0, (), end_of(budget.per, time.time()))


def _headline(account: Account) -> str:
    from flatout.values.budget import Budget

    budget = Budget(account.usd, account.per, account.scope)  # type: ignore[arg-type]
    return f"{figures.dollars(account.left)} of {clean(str(budget))} left"


def _facts(account: Account) -> list[Fact]:
    known = all(lent.used is not None for lent in account.lent)
    rest = "" if known else "; what is spent of the sums below is known when their processes end"
    lines = [("spent", figures.dollars(account.spent) + rest)]
    lines += [("" if place else "lent", _lent(lent)) for place, lent in enumerate(account.lent)]
    if account.until is not None:
        lines.append(("until", time.strftime("%Y-%m-%d %H:%M", time.localtime(account.until))))
    return lines


def _lent(lent: Lent) -> str:
    who = lent.place or ("a process" if lent.pid is None else f"process {lent.pid}")
    since = "" if lent.since is None else f" since {time.strftime('%Y-%m-%d %H:%M', time.localtime(lent.since))}"
    if lent.alive:
        dead = ""
    elif lent.place:
        dead = ", which is silent: what it had used, and 2 % of the budget"
    else:
        dead = ", which has died: what is not spent comes back when its run goes on, or its gateway starts"
    used = "" if lent.used is None else f", {figures.dollars(lent.used)} of it spent or in flight"
    return f"{figures.dollars(lent.usd)} to {who}{since}{used}{dead}"


def _for_scripts(account: Account) -> dict[str, Any]:
    from msgspec import to_builtins

    return {**to_builtins(account), "left": account.left}
