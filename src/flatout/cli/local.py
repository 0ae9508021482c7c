"""``flatout local``: the embedded model, for trials without a key and without a network."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from .terminal import is_live, rewrite, say, show

HELP = """\
The embedded model: real answers without a key and without a network.

It is small (135 million parameters) and mostly wrong: good for trying things out, not for its answers.
"""

SERVE_EPILOG = """\
[bold]Example[/bold]

$ flatout local serve --port 8080
$ flatout run p.jsonl -o out.jsonl -m any --base-url http://127.0.0.1:8080/v1
"""

_MEGABYTE = 1_000_000
_BETWEEN = 0.2  # seconds between two updates of the download's progress


def pull() -> int:
    """Fetch the embedded model (93 MB, once) and verify it."""
    from flatout import local

    present = local.model_path()
    path = local.pull(Download().show)
    if is_live(sys.stderr):
        rewrite("")
    if path == present:
        say("The embedded model is installed already.")
    show(str(path))
    say("Use it with: flatout run prompts.jsonl -m local")
    return 0


def serve(
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65_535, help="Where to listen; 0 takes a free port.")
    ] = 8080,
    slots: Annotated[int, typer.Option(metavar="N", min=1, help="Calls answered at the same time.")] = 8,
) -> int:
    """Serve the embedded model to other programs, as an OpenAI-compatible server on this machine."""
    from flatout import local

    def announce(url: str) -> None:
        say(f"The embedded model answers at {url} until Ctrl-C. Point flatout at it with:")
        say(f"  flatout run prompts.jsonl -o answers.jsonl -m {local.MODEL_NAME} --base-url {url}")

    say("flatout: loading the model …")
    local.serve_forever(port=port, slots=slots, announce=announce)
    return 0


class Download:
    """Shows the progress of a download: in place on a terminal, one line for each stage elsewhere."""

    def __init__(self) -> None:
        self._stage = ""
        self._next = 0.0

    def show(self, stage: str, done: int, total: int) -> None:
        """Show the progress, but not more often than anybody can read."""
        now = time.monotonic()
        live = is_live(sys.stderr)
        if stage == self._stage and (not live or now < self._next):
            return
        name = {"download": "fetching the embedded model", "unpack": "unpacking and verifying it"}.get(stage, stage)
        if live:
            rewrite(f"flatout: {name}: {done / _MEGABYTE:.0f} of {total / _MEGABYTE:.0f} MB")
        else:
            say(f"flatout: {name} ({total / _MEGABYTE:.0f} MB) …")
        self._stage, self._next = stage, now + _BETWEEN
