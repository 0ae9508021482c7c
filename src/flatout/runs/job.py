"""The options of a run, and how it ended, as plain values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from flatout.values.secret import Secret

from .output.formats import is_stream
from .prompts.template import Nulls

Lane = Literal["live", "flex", "batch", "auto"]
"""How rows are answered; ``auto`` is the cheapest lane that is in time."""

AGAIN = "asked again"
"""The name of the fact which rows a process is asking again: an `flatout.store.rows.AskedAgain`."""

CANCELLED = "cancelled"
"""The name of the fact when the batches of a run were cancelled; Unix time."""

BUDGET = "budget"
"""The fact in the run file that says how the budget stands (a `flatout.values.budget.Standing`), at the start and at
the end."""

FORECAST = "forecast"
"""The fact in the run file that holds its plan's forecast."""

DEBT = "debt"
"""The fact in the run file that says under which name its process borrows (a `flatout.money.lending.Debt`), if
processes share the budget. If it is killed, the next one takes back what it did not spend."""


WORKERS = "workers"
"""The fact in the run file that says how many processes ask its rows."""

REACH = "reach"
"""The fact in the run file that says whether `flatout ctl` reaches its process: a `Reach`."""


class Reach(Struct, frozen=True):
    """Whether a process that writes a run file can be steered. One that has not said so yet is starting.

    Attributes:
        process: its id.
        how: ``steered``: it listens at its socket; ``unheard``: there can be no socket; ``over``: it asks nothing any
            more, and writes the output; ``plan``, ``cancel``: it is `flatout plan` or `flatout batch cancel`.
    """

    process: int
    how: Literal["steered", "unheard", "over", "plan", "cancel"]


class RunOptions(Struct, frozen=True, kw_only=True):
    """What to run.

    Args:
        source: the input file; ``-`` is standard input.
        output: the output file; its suffix names the format. None or ``-`` writes JSONL to standard output.
        run_file: the file that holds the run. The default is the output's name plus ``.flatout``; without an output,
            one file for each job in the user's cache folder.
        format: the input's format, if its name does not tell.
        encoding: the input's text encoding.
        delimiter: what stands between the cells of CSV, in the input and in the output; None for the format's own.
        prompt, system: templates.
        images: templates of the pictures to send with every prompt: paths or URLs.
        params: parameters of every call, named as in Call.
        model: the model of every call.
        models: models to ask instead; each row goes to all of them.
        samples: how many times to ask each row (of each model).
        limit: how many rows to take from the start of the input.
        fresh: move an existing run file aside and start over.
        retry_failed: ask the failed rows again.
        keep_prompts: keep the input's rows and the rendered calls in the run file, not only their digests.
        nulls: what a template does with a null; see `flatout.runs.prompts.template.Template`.
        same_prompt: allow a template without placeholders, which asks every row the same.
        overwrite: allow the output to replace a file that this run did not write.
        neutralise: see `flatout.runs.output.write.write`.
        command: the command line; it is kept in the run file and shown as the way to continue.
        otlp: the address of an OpenTelemetry collector for traces and metrics; see `flatout.telemetry`.
        metrics: the port that serves metrics to Prometheus, those of several workers added up.
        workers: how many processes ask the rows.
        lane: how rows are answered: ``live``, ``flex`` (cheaper, slower), in ``batch`` (for half the price, within a
            day), or ``auto``.
        within: seconds in which all answers are wanted; rows go on to a faster lane when it is time. None for no bound.
        detach: with ``batch``: submit and collect what there is, and do not wait.
        keep_files: with ``batch``: leave the uploaded files and the results at the provider.
    """

    source: str
    output: str | None = None
    run_file: str | None = None
    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    prompt: str | None = None
    system: str | None = None
    images: Sequence[str] = ()
    params: Mapping[str, Any] = {}
    model: str | None = None
    models: Sequence[str] | None = None
    samples: int | None = None
    limit: int | None = None
    fresh: bool = False
    retry_failed: bool = False
    keep_prompts: bool = True
    nulls: Nulls = "error"
    same_prompt: bool = False
    overwrite: bool = False
    neutralise: bool = False
    command: str | None = None
    otlp: str | Secret | None = None
    metrics: int | None = None
    workers: int = 1
    lane: Lane = "live"
    within: float | None = None
    detach: bool = False
    keep_files: bool = False

    @property
    def passes(self) -> bool:
        """Whether the run reads a pipe and writes a pipe. Every such run is a new one."""
        kept = self.run_file is not None or (self.output is not None and not is_stream(self.output))
        return self.source == "-" and not kept

    def to_continue(self, run_file: str) -> str | None:
        """The command that continues the run in a run file."""
        if self.command is None or not self.passes:
            return self.command
        return f"{self.command} --run-file {shlex.quote(run_file)}"


class RunEnd(Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        interrupted: whether it was stopped early.
        unfinished: the number of rows without a result; None if the input's length is unknown.
        run_file: the file that holds the run.
        output: the file that was written; None for standard output.
        batches: how many batches go on at the provider.
        under_way: whether the same command is needed again to collect: batches go on, or rows wait for one.
        unwritten: whether the run was stopped while its output was written; nothing of it is there then.
    """

    interrupted: bool
    unfinished: int | None
    run_file: str
    output: str | None
    batches: int = 0
    under_way: bool = False
    unwritten: bool = False
