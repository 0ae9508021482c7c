"""Packages of extras: one that is missing is told with what installs it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from flatout import ConfigError
from flatout.extras import package
from flatout.runs import parquet
from flatout.runs.input import duck
from flatout.tables import _arrow
from flatout.tables._workers import engine


@pytest.mark.parametrize(
    ("missing", "asks", "says"),
    [
        ("pyarrow", parquet.arrow, "Parquet needs pyarrow, .*'flatout\\[parquet\\]'"),
        ("pyarrow.parquet", parquet.arrow, "Parquet needs pyarrow, .*'flatout\\[parquet\\]'"),
        ("pyarrow", _arrow.arrow, "tables need pyarrow, .*'flatout\\[tables\\]'"),
        (
            "duckdb",
            lambda: duck.engine("a.duckdb"),
            "a.duckdb: a DuckDB database needs duckdb, .*'flatout\\[duckdb\\]'",
        ),
        (
            "python_calamine",
            lambda: package("python_calamine", needs="a.xlsx: a workbook needs", extra="excel", name="python-calamine"),
            "a.xlsx: a workbook needs python-calamine, .*'flatout\\[excel\\]'",
        ),
        ("daft", lambda: engine("daft", "daft"), "flatout.daft needs daft, .*'flatout\\[daft\\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, missing: str, asks: Callable[[], object], says: str
) -> None:
    """A user would see a traceback, or be told to install what does not exist."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=f"^{says}$"):
        asks()
