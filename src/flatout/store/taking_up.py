"""Make a run file ready to be written: create it, or continue it if the job is the same; or move an old run aside."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple

from flatout.errors import RunDamaged

from . import database
from .course import Happening
from .database import Place
from .job import LATER, check_same_job
from .queries import queries
from .schema import check_schema

_SQL = queries("run")
_HAPPENING = queries("course")["happening"]
_GIVE_UP = queries("attempts")["give_up"]


def take_up(place: Place, job: dict[str, Any], command: str | None, keep_prompts: bool) -> sqlite3.Connection:
    """A connection that is ready to write this job. The caller holds the lock."""
    place.check_not_emptied()
    connection = database.connect(place, "rwc")
    try:
        version = database.version_of(connection, place)
        database.check_version(version, place)
        check_schema(connection, version, place.name)
        database.migrate(connection, version)
        now = time.time()
        row = connection.execute(_SQL["run"]).fetchone()
        if row is None:
            connection.execute(_SQL["create"], (msgspec.json.encode(job), command, keep_prompts, now, now))
            database.sync_folder(place)
        else:
            was = msgspec.json.decode(row[0])
            check_same_job(place.name, was, job, lambda: bool(connection.execute(_SQL["holds_nothing"]).fetchone()[0]))
            if (described := {**was, **{key: job[key] for key in LATER & job.keys()}}) != was:
                connection.execute(_SQL["describe"], (msgspec.json.encode(described),))
        database.prepare_to_write(connection, place)
        with database.transaction(connection):
            connection.execute(_SQL["take_up"], (now, keep_prompts))
            connection.execute(_HAPPENING, astuple(Happening(at=now, kind="begin")))
            connection.execute(_GIVE_UP)
    except BaseException:
        database.retire(connection)
        raise
    return connection


def move_aside(place: Place) -> Path | None:
    """Rename an old run to the first free ``.1``, ``.2`` …, with its log merged in. Other programs' files stay.

    Returns:
        Its new name; None if there was no old run.
    """
    if not place.is_empty():
        connection = database.connect(place, "rw")
        try:
            database.version_of(connection, place)
        except RunDamaged:
            pass  # it is a run file, so it may be moved aside
        except sqlite3.DatabaseError as error:
            if not database.is_damage(error):
                raise
        finally:
            database.retire(connection)
    elif not place.size("-wal"):
        return None
    number = next(n for n in count(1) if not place.beside(f".{n}").exists() and not place.beside(f".{n}-wal").exists())
    # A log that could not be merged moves along, and moves first: a log alone is no run, but a run alone looks whole.
    with suppress(FileNotFoundError):
        place.beside("-wal").rename(place.beside(f".{number}-wal"))
    place.beside("-shm").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        place.path.rename(place.beside(f".{number}"))
    database.sync_folder(place)
    return place.beside(f".{number}")
