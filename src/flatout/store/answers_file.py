"""Open the file of a cache of answers, or say in one sentence why it cannot be used."""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

from flatout.errors import ConfigError
from flatout.values.kept import Kept

from . import database
from .database import Place
from .queries import queries

APPLICATION_ID = 0x464C4143
"""SQLite's field for the program that owns a file: "FLAC"."""

VERSION = 1

_SQL = queries("answers")
_CONNECTION = queries("connection")


def opened(place: Place) -> sqlite3.Connection:
    """A connection to a cache that can be written.

    Raises:
        ConfigError: it cannot be used; the message says why.
    """
    _check_path(place)
    try:
        connection = database.connect(place, "rwc")
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"{place.name} cannot be used as a cache: {reason(error, place)}") from None
    try:
        _make_ready(connection, place)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise ConfigError(f"{place.name} cannot be used as a cache: {reason(error, place)}") from None
        raise
    return connection


def opened_to_read(place: Place) -> sqlite3.Connection:
    """A connection to a cache that is not changed.

    Raises:
        ConfigError: it cannot be used; the message says why.
    """
    _check_path(place)
    try:
        return _read_only(place, "ro")
    except sqlite3.OperationalError as error:
        # In a read-only folder or on a full disk, SQLite cannot make the index of a log. Without a log it needs none.
        if place.size("-wal"):
            raise ConfigError(f"{place.name} cannot be read: {reason(error, place)}") from None
    except sqlite3.Error as error:
        raise ConfigError(f"{place.name} cannot be used as a cache: {reason(error, place)}") from None
    try:
        return _read_only(place, "immutable")
    except sqlite3.Error as error:
        raise ConfigError(f"{place.name} cannot be read: {reason(error, place)}") from None


def _read_only(place: Place, mode: str) -> sqlite3.Connection:
    connection = database.connect(place, mode)
    try:
        if not _check(connection, place):
            raise ConfigError(f"{place.name} is empty: nothing was kept in it yet")
    except BaseException:
        connection.close()
        raise
    return connection


def kept_of(at: Any, cost: Any, said: Any) -> Kept:
    """An answer from its columns."""
    return Kept(at=float(at), cost=None if cost is None else float(cost), said=bytes(said))


def _check_path(place: Place) -> None:
    if place.path.is_dir():
        raise ConfigError(f"{place.name} is a folder; a cache is one file")
    if not place.path.parent.is_dir():
        raise ConfigError(f"there is no folder {place.path.parent} to keep {place.path.name} in")


def _make_ready(connection: sqlite3.Connection, place: Place) -> None:
    _check(connection, place)
    (mode,) = connection.execute(_CONNECTION["write_ahead"]).fetchone()
    if mode != "wal":
        raise ConfigError(f"{place.name} cannot be used as a cache: its file system allows no log; use a local disk")
    connection.execute(_CONNECTION["handed_over"])
    with database.transaction(connection):
        if not _check(connection, place):
            for statement in ("make", "claim"):
                connection.execute(_SQL[statement])
        connection.execute(_SQL["version"])  # each time, to see whether the file can be written


def _check(connection: sqlite3.Connection, place: Place) -> bool:
    """Whether the file is a cache; False if it is empty.

    Raises:
        ConfigError: it is something else, or a newer flatout wrote it.
    """
    application, version, tables, _ = connection.execute(_CONNECTION["identity"]).fetchone()
    if application == 0 and tables == 0:
        return False
    if application == database.APPLICATION_ID:
        raise ConfigError(f"{place.name} is a run file, not a cache: use its answers with --reuse, or reuse=")
    if application != APPLICATION_ID:
        raise ConfigError(f"{place.name} is an SQLite database of another program, not a cache")
    if version > VERSION:
        raise ConfigError(
            f"{place.name} was written by a newer flatout (version {version} of the cache; this one knows {VERSION}): "
            "upgrade flatout, or use another file"
        )
    return True


def reason(error: Exception, place: Place) -> str:
    """Why a cache cannot be used, for the end of a sentence."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "it is no database"
    if code in _NOT_ALLOWED or getattr(error, "errno", None) in _FORBIDDEN:
        return "the file or its folder is read-only, or not yours"
    if isinstance(error, sqlite3.Error) and not database.is_damage(error):
        return database.what_failed(error, place)
    if isinstance(error, sqlite3.Error | TypeError | ValueError):
        return f"it is damaged ({error}); remove it, and a new one is made"
    return getattr(error, "strerror", None) or str(error)


_NOT_ALLOWED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
