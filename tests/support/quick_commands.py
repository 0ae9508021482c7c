"""Commands that are run to their end, in processes of their own that start at once: `tests.support.warm` forks them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.support.command_samples import PATIENCE, PLENTY, Done, provider, questions
from tests.support.warm import Warm


class Quick(Protocol):
    """Runs a command in a folder to its end, with what is piped in; its standard error stays there, in ``said``."""

    def __call__(self, *arguments: str, folder: Path, stdin: bytes | None = None) -> Done: ...


@contextmanager
def quick(place: Path, rights: Callable[[], None] | None = None) -> Iterator[Quick]:
    """What runs commands, after it has learnt from one of them what a run imports.

    Args:
        place: a folder for that run and for what is piped.
        rights: gives up what no command is to have.
    """

    def run(*arguments: str, folder: Path, stdin: bytes | None = None) -> Done:
        piped, out = place / "piped", place / "out"
        piped.write_bytes(stdin or b"")
        out.write_bytes(b"")
        given = (stdin is not None and str(piped), str(out), str(folder))
        process = warm.start(*arguments, folder=folder, given=given)
        return Done(process.wait(PATIENCE), out.read_text(), process.said())

    with Warm("tests.support.quick_commands", rights) as warm:
        with provider() as server:
            questions(place, 1)
            warm.learn("run", "in.jsonl", "-o", "out.jsonl", *PLENTY, *server.options(), folder=place)
        yield run


def prepare(given: Any) -> None:
    """In the new process, before the command begins.

    Args:
        given: the file of what is piped in, if something is; the file for standard output; and the folder for
            temporary files. None for the command that is learnt from.
    """
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        del os.environ[name]
    if given is None:
        return
    piped, out, temporary = given
    if piped:
        os.dup2(_pipe_of(Path(piped).read_bytes()), 0)
    os.dup2(os.open(out, os.O_WRONLY), 1)
    os.environ.update(TMPDIR=temporary, COLUMNS="120")


def _pipe_of(content: bytes) -> int:
    reading, writing = os.pipe()
    assert os.write(writing, content) == len(content)
    os.close(writing)
    return reading
