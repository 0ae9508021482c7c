"""What is done to a command that is to be killed: its batches are small, its waits short, and its death exact."""

from __future__ import annotations

import os
import signal
from typing import Any

from msgspec.structs import replace

from flatout.lanes.batch import collect, lane, submit
from flatout.lanes.batch.formats import anthropic, gemini, mistral, openai
from flatout.store.run_file import RunFile
from flatout.store.writer import Writer

ROWS = 3


def prepare(death: Any) -> None:
    """In the new process, before the command begins.

    Args:
        death: the number of the commit, from 0, and whether the process dies after it, or before; None to live on.
    """
    for name, dialect in openai.DIALECTS.items():
        openai.DIALECTS[name] = replace(dialect, caps=replace(dialect.caps, rows=ROWS))
    for kind in (anthropic.AnthropicBatch, mistral.MistralBatch, gemini.GeminiBatch):
        kind.caps = replace(kind.caps, rows=ROWS)
    submit.LOOKS = (0.0, 0.02, 0.05)
    collect.SOONEST, lane.PASS_EVERY, lane.LONGEST_NAP = 0.05, 0.1, 0.1
    RunFile.open.__func__.__kwdefaults__["group_seconds"] = 0.001  # type: ignore[attr-defined]
    if death is not None:
        _die_at(*death)


def _die_at(number: int, after: bool) -> None:
    real, seen = Writer._commit, [0]

    def commit(self: Writer, groups: Any) -> Any:
        if not groups:
            return real(self, groups)
        seen[0] += 1
        if seen[0] - 1 == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(self, groups)
        if seen[0] - 1 == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Writer._commit = commit  # type: ignore[method-assign]
