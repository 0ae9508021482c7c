"""The commands, put together."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from . import (
    batch,
    budget,
    cache,
    ctl,
    inspect,
    local,
    plan,
    report,
    run,
    serve,
    serve_keys,
    simulate,
    trace,
    trust,
    watch,
)
from .asked import taking
from .terminal import show

HELP = """\
Run LLM calls flat out: as fast as your limits allow, and never past them.

A file of prompts in, a file of answers out: every row ends with one answer or one named error, nothing is lost in a \
crash, nothing is paid twice.
"""

EPILOG = """\
[bold]Start here[/bold]

$ flatout local pull          # a small model for trials: no key, no network
$ flatout run prompts.jsonl -o answers.jsonl -m local
$ flatout plan prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini
$ flatout run prompts.jsonl -o answers.jsonl -m openai/gpt-5-mini --rpm 10k
$ flatout status answers.jsonl
"""


def _version(asked: bool) -> None:
    if asked:
        from flatout._version import __version__

        show(f"flatout {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@functools.cache
def command(name: str | None = None) -> Any:
    """The whole command, ready to be called.

    Args:
        name: a subcommand's name: the others are left out, since to read all their options takes a sixth of a start.
            With any other name the command is whole.
    """
    app = _whole()
    commands = [each for each in app.registered_commands if each.name == name]
    groups = [each for each in app.registered_groups if each.name == name]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups
    return typer.main.get_command(app)


def _whole() -> typer.Typer:
    app = typer.Typer(
        name="flatout",
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,  # they would show local variables, and with them prompts and answers
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_top)
    app.command("run", epilog=run.EPILOG)(taking(run.run, run.OPTIONS))
    app.command("plan", epilog=plan.EPILOG)(taking(plan.plan, plan.OPTIONS))
    app.command("status", epilog=inspect.STATUS_EPILOG)(inspect.status)
    app.command("watch", epilog=watch.EPILOG)(watch.watch)
    app.command("export", epilog=inspect.EXPORT_EPILOG)(inspect.export)
    app.command("trace", epilog=trace.EPILOG)(trace.trace)
    app.command("report", epilog=report.EPILOG)(report.report)
    app.command("ctl", epilog=ctl.EPILOG)(ctl.ctl)
    app.command("trust", epilog=trust.EPILOG)(trust.trust)
    app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
    kept = typer.Typer(help=cache.HELP, no_args_is_help=True, rich_markup_mode="rich")
    kept.command("ls", epilog=cache.LS_EPILOG)(cache.ls)
    kept.command("why", epilog=cache.WHY_EPILOG)(cache.why)
    kept.command("prune", epilog=cache.PRUNE_EPILOG)(cache.prune)
    kept.command("export", epilog=cache.EXPORT_EPILOG)(cache.export)
    app.add_typer(kept, name="cache")
    batches = typer.Typer(help=batch.HELP, no_args_is_help=True, rich_markup_mode="rich")
    batches.command("ls", epilog=batch.LS_EPILOG)(batch.ls)
    batches.command("cancel", epilog=batch.CANCEL_EPILOG)(batch.cancel)
    app.add_typer(batches, name="batch")
    budgets = typer.Typer(help=budget.HELP, no_args_is_help=True, rich_markup_mode="rich")
    budgets.command("ls", epilog=budget.LS_EPILOG)(budget.ls)
    budgets.command("set", epilog=budget.SET_EPILOG)(budget.set_)
    app.add_typer(budgets, name="budget")
    gateway = typer.Typer(invoke_without_command=True, rich_markup_mode="rich", epilog=serve.EPILOG)
    gateway.callback()(serve.serve)
    keys = typer.Typer(help=serve_keys.HELP, no_args_is_help=True, rich_markup_mode="rich")
    keys.command("add", epilog=serve_keys.ADD_EPILOG)(serve_keys.add)
    keys.command("ls", epilog=serve_keys.LS_EPILOG)(serve_keys.ls)
    keys.command("rm", epilog=serve_keys.RM_EPILOG)(serve_keys.rm)
    gateway.add_typer(keys, name="key")
    app.add_typer(gateway, name="serve")
    group = typer.Typer(help=local.HELP, no_args_is_help=True, rich_markup_mode="rich")
    group.command("pull")(local.pull)
    group.command("serve", epilog=local.SERVE_EPILOG)(local.serve)
    app.add_typer(group, name="local")
    return app
