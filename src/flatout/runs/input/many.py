"""Several files as one input: all that a pattern matches, or all data files of a folder, in the order of their names.

They must be alike: of one format, and with the same columns where a format knows them before its rows. Each row keeps
its file's name for messages, and is counted through all files.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from urllib.parse import unquote

from flatout.errors import ConfigError

from .begun import Input
from .formats import by_suffix
from .rows import Row

_MARKS = "*?["
_COLUMN = re.compile(r"([A-Za-z_]\w*)=(.+)")
_NAMED = 5  # columns that a message names


def is_several(path: Path) -> bool:
    """Whether a name means several files: a folder, or a pattern that is no file's own name."""
    return path.is_dir() or (any(mark in str(path) for mark in _MARKS) and not path.exists())


def belongs(path: Path, source: Path) -> bool:
    """Whether a file, which need not exist, is or would be among those that a name means."""
    if not is_several(source):
        return False
    path, source = Path(os.path.abspath(path)), Path(os.path.abspath(source))  # noqa: PTH100 - without any ".."
    if source.is_dir():
        return path.is_relative_to(source) and by_suffix(path) is not None and not is_hidden(path.relative_to(source))
    return path in _matches(source) or _would_match(path, source)


def belongs_elsewhere(url: str, source: str) -> bool:
    """Whether a URL would be read as a part of an input elsewhere, as far as the names tell."""
    if any(mark in source for mark in _MARKS):
        return _would_match(Path(url), Path(source))
    folder, path = f"{source.rstrip('/')}/", Path(url)
    return url.startswith(folder) and by_suffix(path) is not None and not is_hidden(path.relative_to(folder))


def files_of(name: str, source: Path) -> list[Path]:
    """The files that a name means, in the order of their names.

    Raises:
        ConfigError: there are none, or those of a folder are of several formats.
    """
    if not source.is_dir():
        found = sorted(each for each in _matches(source) if not each.is_dir())
        if not found:
            raise ConfigError(f"{name}: matches no file")
        return found
    found = sorted(_data_files(source))
    if not found:
        raise ConfigError(f"{name}: is a directory without files that can be read")
    check_one_kind(name, found)
    return found


def check_one_kind(name: str, found: Sequence[PurePath]) -> None:
    """Refuse a folder with data files of several formats."""
    kinds = sorted({each.suffix for each in found if by_suffix(each) != by_suffix(found[0])} | {found[0].suffix})
    if len(kinds) > 1:
        pattern = os.path.join(name, f"*{kinds[0]}")  # noqa: PTH118 - as the user wrote it
        raise ConfigError(f"{name}: is a directory with {' and '.join(kinds)} files; name one kind: '{pattern}'")


class Joined(Input):
    """The rows of several files, one file after the other.

    If all files are in folders such as ``day=1``, that is a column: tools that divide data by a column write its values
    into the names of folders, and not into the files. They are text.

    Args:
        name: the pattern or folder as the user wrote it.
        inputs: the files, opened.

    Raises:
        ConfigError: they are not alike.
    """

    __slots__ = ("_added", "_inputs")

    def __init__(self, name: str, inputs: Sequence[Input]) -> None:
        self._inputs = inputs
        first = self._inputs[0]
        self._added = _columns_of_folders(inputs)
        for other in self._inputs[1:]:
            _check_alike(first, other)
        self.name = name
        self.format = first.format
        self.columns = None if first.columns is None else (*first.columns, *self._added[0])
        self.types = first.types if all(each.types == first.types for each in self._inputs) else None
        self.repeatable = True

    def __iter__(self) -> Iterator[Row]:
        index = 0
        for each, added in zip(self._inputs, self._added, strict=True):
            for row in each.rows():
                yield Row(index, row.line, {**added, **row.columns} if added else row.columns, row.source)
                index += 1
        if not index:
            raise ConfigError(f"{self.name}: no rows")


def _check_alike(first: Input, other: Input) -> None:
    if not other.repeatable:
        raise ConfigError(f"{other.name}: is a pipe; give it alone")
    if other.format != first.format:
        raise ConfigError(f"{other.name}: is {other.format}, but {first.name} is {first.format}; give one kind")
    if first.columns is None or other.columns is None:
        return
    if differ := sorted(set(first.columns) ^ set(other.columns)):
        listed = ", ".join(differ[:_NAMED])
        raise ConfigError(f"{other.name}: has other columns than {first.name}: they differ in {listed}")


def _columns_in(name: str, columns: Sequence[str] | None) -> dict[str, str]:
    """The columns that a file's folders name, as in ``day=1/part.parquet``, but for those that the file has itself."""
    found = (_COLUMN.fullmatch(folder) for folder in PurePath(name).parts[:-1])
    named = {match[1]: unquote(match[2]) for match in found if match is not None}
    return {column: value for column, value in named.items() if column not in (columns or ())}


def _columns_of_folders(inputs: Sequence[Input]) -> list[dict[str, str]]:
    """The columns that the folders of each file name; none if a file is in no such folder.

    Raises:
        ConfigError: they are not the same for all files.
    """
    added = [_columns_in(each.name, each.columns) for each in inputs]
    if not all(added):
        return [{} for _ in inputs]
    for other, columns in zip(inputs, added, strict=True):
        if differ := sorted(columns.keys() ^ added[0].keys()):
            listed = ", ".join(differ[:_NAMED])
            raise ConfigError(f"{other.name}: its folders name other columns than those of {inputs[0].name}: {listed}")
    return added


def _matches(pattern: Path) -> list[Path]:
    return [Path(each) for each in glob.iglob(str(pattern), recursive=True)]  # noqa: PTH207 - absolute ones too


def _would_match(path: Path, pattern: Path) -> bool:
    """Whether a pattern would match a file if it existed; with ``**`` perhaps too often, and never too seldom."""
    if "**" in pattern.parts:
        return fnmatch.fnmatchcase(str(path), str(pattern).replace("**/", "*"))
    if len(path.parts) != len(pattern.parts):
        return False
    return all(map(fnmatch.fnmatchcase, path.parts, pattern.parts))


def _data_files(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not is_hidden(Path(each))]
        for name in names:
            path = Path(inside, name)
            if not is_hidden(Path(name)) and by_suffix(path) is not None:
                yield path


def is_hidden(path: PurePath) -> bool:
    """Whether a part of a path is one that tools write beside data, such as ``_SUCCESS`` and ``.part.crc``."""
    return any(part.startswith((".", "_")) for part in path.parts)
