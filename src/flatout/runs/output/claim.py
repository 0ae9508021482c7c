"""Decides which file an output may replace.

A mistyped name must not cost anybody a file. An output replaces what the same run wrote there before, and nothing else
unless the user allows it. It never replaces the run's own input or the run file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from msgspec import Struct

from flatout.errors import ConfigError, StoreError
from flatout.runs.input.database import is_query
from flatout.runs.input.many import belongs, belongs_elsewhere
from flatout.runs.input.names import file_of, is_elsewhere, parted, shown
from flatout.store import RunReader

OUTPUTS = "outputs"
"""The fact in the run file that lists the digests of the outputs that the run wrote, the newest last."""

SOURCE = "source"
"""The fact in the run file that says where the run's input is."""

_KEPT = 5  # digests of outputs that a run file remembers


class Claim(Struct, frozen=True, kw_only=True):
    """What a run may overwrite.

    Args:
        source: the run's input.
        run_file: the run file.
        mine: the digests of outputs that the run wrote.
        overwrite: whether any other file may be replaced too.
        rereads: whether the input is read again while the output is written.
        note: receives the digests of the run's outputs before a new one takes its place.
    """

    source: str | None = None
    run_file: str | None = None
    mine: Sequence[str] = ()
    overwrite: bool = False
    rereads: bool = False
    note: Callable[[list[str]], None] | None = None

    @classmethod
    def of(
        cls,
        run_file: str | os.PathLike[str],
        *,
        source: str | None = None,
        overwrite: bool = False,
        rereads: bool = False,
    ) -> Claim:
        """The claim of the run that a file holds or will hold."""
        mine: list[str] = []
        with suppress(StoreError), RunReader.open(run_file) as reader:
            source, mine = source or reader.fact(SOURCE), reader.fact(OUTPUTS) or []
        return cls(source=source, run_file=os.fspath(run_file), mine=mine, overwrite=overwrite, rereads=rereads)

    def check(self, path: str | Path) -> None:
        """Check that a file may be written at a path.

        Raises:
            ConfigError: another file would be lost.
            OSError: the file cannot be examined.
        """
        target = Path(path)
        self._check_kept(target, str(path))
        self._check_there(str(path), "file", (lambda: digest(target)) if _size(target) else None)

    def check_elsewhere(self, name: str, content: Callable[[], str] | None) -> None:
        """Check that a file elsewhere may be written.

        Args:
            name: its URL, without a password.
            content: the digest of what is there; None if nothing is.

        Raises:
            ConfigError: another file would be lost.
        """
        if self.source == name:
            raise ConfigError(f"{name}: is the input; write to another file")
        if self.source is not None and is_elsewhere(self.source) and belongs_elsewhere(name, self.source):
            raise ConfigError(f"{name}: would be one of the files of the input {self.source}; write it elsewhere")
        self._check_there(name, "file", content)

    def check_table(self, file: Path, table: str, content: Callable[[], str] | None) -> None:
        """Check that a table of a database may be written.

        Args:
            file: the database.
            table: the table.
            content: the digest of what the table holds; None if there is no such table.

        Raises:
            ConfigError: another's table, or the run's own file, would be lost.
        """
        name = f"{file}::{table}"
        beside = self._reads_beside(file, table)
        if beside and self.rereads:
            raise ConfigError(
                f"{name}: is in the database of the input, which is read once more while the answers are written, "
                "because the run file keeps no prompts: leave out --no-prompts, or write to another file"
            )
        if not beside:
            self._check_kept(file, name)
        self._check_there(name, "table", content)

    def written(self, digest: str) -> None:
        """Note the digest of a new output that is complete but not in its place yet."""
        if self.note is not None:
            self.note([*self.mine, digest][-_KEPT:])

    def _check_kept(self, target: Path, name: str) -> None:
        """Refuse the run's own input and its run file."""
        source = None if self.source is None or is_elsewhere(self.source) else file_of(self.source)
        for other, what in ((source, "the input"), (self.run_file, "the run file")):
            if other is not None and _is_same(target, other):
                raise ConfigError(f"{name}: is {what}; write to another file")
        if source is not None and belongs(target, Path(source)):
            raise ConfigError(f"{name}: would be one of the files of the input {source}; write it elsewhere")

    def _reads_beside(self, file: Path, table: str) -> bool:
        """Whether the run reads another table of the database."""
        source = parted(self.source or "")
        if source.part is None or is_query(source.part):
            return False
        return _is_same(file, str(source.file)) and source.part.strip().lower() != table.lower()

    def _check_there(self, name: str, what: str, content: Callable[[], str] | None) -> None:
        """Refuse to replace what somebody else wrote."""
        if not self.overwrite and content is not None and content() not in self.mine:
            raise ConfigError(f"{name}: exists already; name another {what}, or add --overwrite to replace it")


def _size(file: Path) -> int:
    """Bytes; 0 if there is no such file."""
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def digest(file: Path) -> str:
    """The digest of a file's content; takes about a second a gigabyte."""
    with file.open("rb") as stream:
        return digest_of(stream)


def digest_of(stream: BufferedReader) -> str:
    """The digest of all that a stream has."""
    return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def where(source: str) -> str | None:
    """The absolute place of an input, valid from any working directory; None for standard input.

    That of a file elsewhere is told without a password, and without a query, which may be a signature.
    """
    if is_elsewhere(source):
        return shown(source)
    with suppress(OSError):  # the working directory may no longer exist
        return None if source == "-" else str(Path(source).absolute())
    return None


def _is_same(path: Path, other: str) -> bool:
    """Whether both are one file, through links of either kind."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False
