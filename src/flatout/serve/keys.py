"""The local keys of the gateway. Only their digests are kept: a key itself is shown once, when it is made."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from flatout.config.folder_lock import alone_in
from flatout.config.folders import state_folder
from flatout.errors import ConfigError

from .callers import Allowed

PREFIX = "sk-flatout-"
"""How keys begin, so that programs which look for keys in logs and commits find them."""

LOOK = 1.0
"""Seconds between two looks at the file for keys that were added or removed."""


class Key(Struct, frozen=True, omit_defaults=True):
    """A local key.

    Attributes:
        name: whose it is.
        digest: the SHA-256 of the key. It is 256 random bits, so nobody finds it from that.
        made: when; Unix time.
        allowed: what its callers may do.
    """

    name: str
    digest: str
    made: float
    allowed: Allowed = Allowed()


def place() -> Path:
    """Where the keys are kept.

    Raises:
        ConfigError: the user has no home folder.
    """
    return state_folder() / "serve" / "keys.json"


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read(file: Path) -> list[Key]:
    """The keys in a file; none if there is no file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Key])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"the keys in {file} cannot be read: {error}") from None


def add(name: str, allowed: Allowed, file: Path) -> str:
    """Make a key. Returns it; it cannot be shown again.

    Raises:
        ConfigError: there is one with that name, or the file cannot be written.
    """
    made = PREFIX + secrets.token_urlsafe(32)
    with _changed(file) as keys:
        if any(key.name == name for key in keys):
            raise ConfigError(f"there is a key named {name}: remove it first, with flatout serve key rm {name}")
        keys.append(Key(name, digest_of(made), time.time(), allowed))
    return made


def remove(name: str, file: Path) -> None:
    """Remove a key. A gateway that serves forgets it within a second.

    Raises:
        ConfigError: there is none with that name, or the file cannot be written.
    """
    with _changed(file) as keys:
        found = [key for key in keys if key.name == name]
        if not found:
            raise ConfigError(f"there is no key named {name}: see flatout serve key ls")
        keys.remove(found[0])


@contextmanager
def _changed(file: Path) -> Iterator[list[Key]]:
    """A block that changes the keys in a file, while no other program does.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_in(file.parent):
            keys = read(file)
            yield keys
            _write(keys, file)
    except OSError as error:
        raise ConfigError(f"the keys cannot be written to {file}: {error.strerror or error}") from None


def _write(keys: list[Key], file: Path) -> None:
    new = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(msgspec.json.encode(keys))
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


class Keyring:
    """The keys of a gateway that serves. It follows the file, so that keys can be added and removed meanwhile.

    Args:
        file: where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._by_digest: dict[str, Key] = {}
        self.look()

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_digest.values())

    @property
    def has_budgets(self) -> bool:
        """Whether one of the keys has a budget."""
        return any(key.allowed.budget is not None for key in self)

    def find(self, key: str) -> Key | None:
        """The key with a text; None if there is none."""
        return self._by_digest.get(digest_of(key))

    def named(self, name: str) -> Key | None:
        """The key of a name; None if there is none."""
        return next((key for key in self if key.name == name), None)

    def look(self) -> set[str]:
        """Read the file, if it has changed. This may wait for the disk. Returns the names whose keys are gone since,
        also if they have others now.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            found = self._file.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return set()
        before, self._by_digest = self._by_digest, {key.digest: key for key in read(self._file)}
        self._stamp = stamp
        return {key.name for digest, key in before.items() if digest not in self._by_digest}
