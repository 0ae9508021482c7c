"""What is run, and how it ended, as values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from flatout.values.secret import Secret

from .output.write import is_stream
from .prompts.template import Nulls


class RunOptions(Struct, frozen=True, kw_only=True):
    """What to run.

    Args:
        source: the input file; ``-`` is standard input.
        output: the output file, its format named by its suffix; None or ``-`` writes JSONL to standard output.
        run_file: where the run is kept; by default the output's name with ``.flatout`` behind it, and without an
            output a file in the user's cache folder, another one for each job.
        format: the input's format, where its name does not tell.
        encoding: the input's text encoding.
        prompt, system: templates.
        images: templates of the pictures that go with every prompt: paths or URLs.
        params: parameters of every call, by a Call's names.
        model: the model of every call.
        models: ask every row of each of these instead.
        samples: ask every row (of each model) so many times.
        limit: take the first so many rows alone.
        fresh: move an existing run file aside and start over.
        retry_failed: ask again for rows that failed.
        keep_prompts: keep the input's rows and the rendered calls in the run file, not only their digests.
        nulls: what becomes of a null that a template puts in; see `flatout.runs.prompts.template.Template`.
        same_prompt: ask the same of every row, where the template has no placeholder.
        overwrite: let the output take the place of a file that this run did not write.
        neutralise: see `flatout.runs.output.write.write`.
        command: the command line, kept in the run file and shown for going on.
        otlp: the address of an OpenTelemetry collector for traces and metrics; see `flatout.telemetry`.
        metrics: the port on which Prometheus finds the metrics.
    """

    source: str
    output: str | None = None
    run_file: str | None = None
    format: str | None = None
    encoding: str = "utf-8"
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

    @property
    def passes(self) -> bool:
        """Whether rows come from a pipe, and answers go into one: each time it is another run."""
        kept = self.run_file is not None or (self.output is not None and not is_stream(self.output))
        return self.source == "-" and not kept

    def to_go_on(self, run_file: str) -> str | None:
        """The command that goes on with the run in a run file."""
        if self.command is None or not self.passes:
            return self.command
        return f"{self.command} --run-file {shlex.quote(run_file)}"


class RunEnd(Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        interrupted: whether it was stopped before its end.
        unfinished: rows without a result; None when the input's length is not known.
        run_file: where the run is kept.
        output: what was written; None for standard output.
    """

    interrupted: bool
    unfinished: int | None
    run_file: str
    output: str | None
