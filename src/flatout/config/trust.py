"""Which of the files that are found may be listened to: the user's own, and those that the user has said yes to.

A flatout.toml is looked for in every folder above the working directory, so it may be anybody's: of a folder that all
may write to, of a repository that was cloned a minute ago. It decides where prompts and keys are sent. Two rules follow
from that, as Git and direnv have them. A file that somebody else owns or may write to is not listened to. And what
would send prompts or keys to where nobody expects them (see `flatout.providers.consent`) needs the user's word, once
for each content of the file: it is kept by digest, so that an edited file is asked about anew.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from flatout.errors import ConfigError
from flatout.text.visible import visible

from .folders import state_folder

MOST = 1 << 20
"""Bytes of a file that is read."""


def read_owned(path: Path) -> tuple[bytes, str] | None:
    """What a file holds, and why it may not be the user's own ("" when it is); None when no file can be found there.

    Raises:
        OSError: the user's own file cannot be read. Somebody else's then counts as empty.
    """
    try:
        link, file = path.lstat(), path.stat()
    except OSError:  # none is there, or a folder above does not let us look
        return None
    if not stat.S_ISREG(file.st_mode):
        return None
    try:
        content, file = _read(path)
    except OSError:
        if doubt := _doubt(link) or _doubt(file):
            return b"", doubt
        raise
    return content, _doubt(link) or _doubt(file)


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """What a file holds, and whose it is: both of the same file, whatever others put in its place meanwhile."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_size > MOST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return file.read(MOST), facts


def is_trusted(content: bytes) -> bool:
    """Whether the user has said yes to a file of this content."""
    return _digest(content) in _known()


def trust(content: bytes, path: Path) -> None:
    """Keep that the user says yes to a file of this content. The path is kept for people.

    Raises:
        ConfigError: it cannot be kept.
    """
    if not is_trusted(content):
        _write({**_known(), _digest(content): visible(str(path))})


def distrust(content: bytes) -> bool:
    """Take it back; whether there was anything to take back.

    Raises:
        ConfigError: it cannot be kept.
    """
    known = _known()
    if known.pop(_digest(content), None) is None:
        return False
    _write(known)
    return True


def _doubt(facts: os.stat_result) -> str:
    """Why a file may say what others want. Root may write anywhere, so its files are no more doubtful than the rest."""
    if facts.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user ({_name(facts.st_uid)})"
    if stat.S_ISLNK(facts.st_mode):
        return ""  # nobody can write to a link, whatever its mode says
    if facts.st_mode & stat.S_IWOTH:
        return "everybody may write to it"
    if facts.st_mode & stat.S_IWGRP and facts.st_gid not in (os.getegid(), 0):  # many have a group of their own
        return "another group may write to it"
    return ""


def _name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _place() -> Path:
    return state_folder() / "trusted"


def _known() -> dict[str, str]:
    """The paths by the digests. A list that others may write to says nothing."""
    try:
        read = read_owned(_place())
    except (OSError, ConfigError):
        return {}
    if read is None or read[1]:
        return {}
    lines = (line.partition("  ") for line in read[0].decode(errors="replace").splitlines())
    return {digest: path for digest, _, path in lines}


def _write(known: dict[str, str]) -> None:
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = place.with_name(f"{place.name}.{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{digest}  {path}\n" for digest, path in known.items())
        temporary.replace(place)
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror or error}") from None
