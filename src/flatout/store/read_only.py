"""Open the SQLite file for reading only: also in a read-only folder, and after a kill in the middle of a checkpoint."""

from __future__ import annotations

import sqlite3

from flatout.errors import StoreError

from .database import Place, connect, explain, explained, version_of


def open_to_read(place: Place) -> tuple[sqlite3.Connection, int]:
    """A connection that reads, and the version of the file. The file must exist.

    Raises:
        StoreError: it cannot be read, or it is another program's.
        RunDamaged: it is not a readable run file.
    """
    try:
        return _open_as(place, "ro")
    except sqlite3.OperationalError as error:
        # In a read-only folder SQLite cannot create the index of a log. Without a log it needs no index.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise explain(error, place) from error
        if _rolled_back(place):
            with explained(place):
                return _open_as(place, "ro")
        if place.size("-wal") or place.size("-journal"):
            raise StoreError(
                f"{place.name} has a log beside it, and its folder is read-only: copy both to a folder of yours"
            ) from error
    except sqlite3.Error as error:
        raise explain(error, place) from error
    with explained(place):
        return _open_as(place, "immutable")


def _rolled_back(place: Place) -> bool:
    """Undo what a kill left half done, as the next writer would. True if there was something and it worked.

    A process that was killed while merging its log into the file leaves a journal, which a reader may not play back.
    """
    if not place.size("-journal"):
        return False
    try:
        _open_as(place, "rw")[0].close()
    except sqlite3.Error:
        return False
    return True


def _open_as(place: Place, mode: str) -> tuple[sqlite3.Connection, int]:
    connection = connect(place, mode)
    try:
        return connection, version_of(connection, place)
    except BaseException:
        connection.close()
        raise
