"""Commands that are run to their end, in processes of their own that start at once: `tests.support.warm` forks them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tests.support import command_samples
from tests.support.command_samples import PATIENCE, PLENTY, Done, provider, questions, sound
from tests.support.warm import Warm


class Quick(Protocol):
    """Runs a command in a folder to its end, with what is piped in. It has no keys but those in ``env``."""

    def __call__(
        self,
        *arguments: str,
        folder: Path,
        stdin: bytes | None = None,
        seconds: float = PATIENCE,
        env: dict[str, str] | None = None,
    ) -> Done: ...


@contextmanager
def quick(rights: Callable[[], None] | None = None) -> Iterator[Quick]:
    """What runs commands, after it has learnt from one of them what a run imports.

    Args:
        rights: gives up what no command is to have.
    """

    def run(
        *arguments: str,
        folder: Path,
        stdin: bytes | None = None,
        seconds: float = PATIENCE,
        env: dict[str, str] | None = None,
    ) -> Done:
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        with TemporaryDirectory() as own:
            piped, out, said = (Path(own, name) for name in ("piped", "out", "said"))
            piped.write_bytes(stdin or b"")
            out.touch()
            given = (stdin is not None and str(piped), str(out), inherited | {"COLUMNS": "120"} | (env or {}))
            process = warm.start(*arguments, folder=folder, given=given, said=said)
            return sound(Done(process.wait(seconds), out.read_text(), process.said()))

    with Warm("tests.support.quick_commands", rights) as warm:
        with TemporaryDirectory() as name, provider() as server:
            questions(folder := Path(name), 1)
            warm.learn("run", "in.jsonl", "-o", "out.jsonl", *PLENTY, *server.options(), folder=folder)
        yield run


@cache
def _shared() -> Quick:
    """One for all the tests of this process."""
    kept = ExitStack()
    atexit.register(kept.close)
    return kept.enter_context(quick())


def flatout(*arguments: str, folder: Path, prepare: Callable[[], None] | None = None, **options: Any) -> Done:
    """Run the command to its end.

    Args:
        arguments: the command line.
        folder: its working directory.
        prepare: called in the new process before the command starts, which then has an interpreter of its own.
        options: as for `Quick`.
    """
    if prepare is not None:
        return command_samples.flatout(*arguments, folder=folder, prepare=prepare, **options)
    return _shared()(*arguments, folder=folder, **options)


def prepare(given: Any) -> None:
    """In the new process, before the command begins.

    Args:
        given: the file of what is piped in, if something is; the file for standard output; and the environment. None
            for a command that writes to where it says.
    """
    if given is None:
        for name in [name for name in os.environ if name.endswith("_API_KEY")]:
            del os.environ[name]
        return
    piped, out, environment = given
    if piped:
        os.dup2(_pipe_of(Path(piped).read_bytes()), 0)
    os.dup2(os.open(out, os.O_WRONLY), 1)
    os.environ.clear()
    os.environ.update(environment)


def _pipe_of(content: bytes) -> int:
    reading, writing = os.pipe()
    assert os.write(writing, content) == len(content)
    os.close(writing)
    return reading
