"""Asks a run that is under way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flatout.errors import ConfigError, FlatoutError

from . import place

PATIENCE = 10.0
"""Seconds to wait for an answer."""

_MOST = 1_000_000  # bytes of an answer


class NotUnderWay(ConfigError):
    """No program runs the file."""


def ask(run_file: Path, request: dict[str, Any], seconds: float = PATIENCE) -> dict[str, Any]:
    """Ask the program that runs a run file. Returns its answer.

    Raises:
        NotUnderWay: no program runs the file.
        ConfigError: the program refuses the request.
        FlatoutError: it cannot be asked.
    """
    try:
        end = place.connect(run_file, seconds)
        if end is None:
            raise NotUnderWay(f"no run of {run_file} is under way: there is nothing to steer")
        with end, end.makefile("rb") as answers:
            end.sendall(json.dumps(request).encode() + b"\n")
            line = answers.readline(_MOST)
    except TimeoutError:
        raise FlatoutError(f"the run of {run_file} does not answer within {seconds:g} s") from None
    except OSError as error:
        raise FlatoutError(f"the run of {run_file} cannot be asked: {error.strerror or error}") from None
    if not line.endswith(b"\n"):
        raise FlatoutError(f"the run of {run_file} has ended just now")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise ConfigError(answer["error"])
    return answer
