"""``flatout trust``: the user's permission for a flatout.toml that sends prompts or keys to unexpected places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .terminal import say

EPILOG = """\
[bold]Examples[/bold]

$ flatout trust                    # the flatout.toml that holds here
$ flatout trust ../flatout.toml
$ flatout trust --revoke
"""


def trust(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="The file; default the flatout.toml here or in a folder above."),
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", metavar="", help="Take it back.")] = False,
) -> int:
    """Let a flatout.toml send prompts and keys where it says, until it is edited.

    Needed if the file gives a built-in provider another address, sends an environment variable to a server as its key,
    or belongs to somebody else.
    """
    from flatout.config import trust as kept

    path, content = _file(file)
    if revoke:
        known = kept.distrust(content)
        say(f"flatout: {path} is no longer trusted" if known else f"flatout: {path} was not trusted")
        return 0
    does = _what_it_does(path, content)
    kept.trust(content, path)
    say(f"flatout: trusts {path}, as it is now{':' if does else ''}")
    for what in does:
        say(f"  it sends {what}")
    say("To take it back: flatout trust --revoke")
    return 0


def _file(given: str | None) -> tuple[Path, bytes]:
    from flatout.config.file import FILE_NAME, find
    from flatout.errors import ConfigError

    try:
        path = Path(os.path.realpath(given)) if given is not None else find()
        if path is None:
            raise ConfigError(f"there is no {FILE_NAME} here or in a folder above")
        return path, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{given or FILE_NAME}: {error.strerror or error}") from None


def _what_it_does(path: Path, content: bytes) -> list[str]:
    from flatout.config.file import parse
    from flatout.providers.consent import unexpected
    from flatout.providers.endpoints import endpoint_of

    tables = parse(content, str(path)).endpoints
    return [what for name, table in tables.items() for what in unexpected(endpoint_of(name, table), table)]
