"""The command ``flatout``: parses the command line, calls the library, and shows the result.

No traceback leaves this package: every failure is one sentence on standard error. `main` imports the command line
library, and each command imports the library inside its function, so ``flatout --help`` stays quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from flatout.errors import FlatoutError
from flatout.extras import alone

from .exit_codes import FAILED, INTERRUPTED, PIPE_CLOSED, UNUSABLE
from .terminal import clean, say, sentence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. The default arguments are this process's own.

    0: done. 1: finished, but some rows have no answer, or there is a defect in flatout. 2: unusable options or input.
    130: interrupted.
    """
    if arguments is None:
        alone()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
        if sys.stdout is not None:
            sys.stdout.flush()  # the last place where a reader that has gone causes no message
    except KeyboardInterrupt:  # before the run handles it, or in a command that does not
        say("flatout: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except FlatoutError as error:
        _debug()
        say(f"flatout: {sentence(error)}")
        return UNUSABLE
    except Exception as error:
        return _unexpected(error, given)
    return code


def _run(arguments: list[str]) -> int:
    import typer

    from .app import command
    from .parse import with_cache_folder

    if not _debugging():
        # An error in a destructor can be reported to nobody, but the interpreter would print a traceback.
        sys.unraisablehook = lambda _: None

    # Its own main() would swallow broken pipes and interrupts, which this function distinguishes.
    program = command(next(iter(arguments), None))
    try:
        with program.make_context("flatout", with_cache_folder(arguments), obj=tuple(arguments)) as context:
            code = program.invoke(context)
    except typer.Exit as early:  # --help and --version
        return early.exit_code
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    # a usage error; whether its class is in click or typer depends on typer's version
    if hasattr(error, "format_message"):
        from .usage import explain

        explain(error, arguments)
        return UNUSABLE
    _debug()
    from flatout.text.redact import redact

    message = clean(redact(str(error)), 300)
    kind = type(error).__name__
    say(f"flatout: unexpected {kind}{': ' if message else ''}{message} (set FLATOUT_DEBUG=1 to see where)")
    return FAILED


def _debugging() -> bool:
    return os.environ.get("FLATOUT_DEBUG", "") not in ("", "0")


def _debug() -> None:
    if _debugging():
        import traceback

        from flatout.text.redact import redact

        say(redact(traceback.format_exc().rstrip()))


def _leave_quietly() -> int:
    """The reader of our output has gone (``| head``). Keep the interpreter from complaining when it flushes."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
