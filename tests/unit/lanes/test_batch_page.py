"""The page about batches says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from flatout.lanes.offers import batch_format, lanes_of
from flatout.providers.registry import BUILT_IN

from .batch.support import target

PAGE = Path(__file__).parents[3] / "docs" / "batch.md"
_ROW = re.compile(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d,]+) MB \| (\d+) h \| \w+ \| (yes|no) \|$", re.MULTILINE)


def test_the_table_has_every_provider_with_batches_and_its_figures() -> None:
    """Users plan by the table."""
    told = {}
    for name, rows, size, hours, cancel in _ROW.findall(PAGE.read_text()):
        told[name] = int(rows.replace(",", "")), int(size.replace(",", "")), int(hours), cancel == "yes"
    true = {}
    for name in BUILT_IN:
        where = target(name, base_url="https://r.openai.azure.com" if name == "azure" else None)
        if "batch" in lanes_of(where):
            batch = batch_format(where)
            size, hours = batch.caps.size // 1_000_000, int(batch.caps.seconds // 3_600)
            true[name] = batch.caps.rows, size, hours, batch.cancel("b") is not None
    assert told == true


def test_the_sellers_of_flex_are_named() -> None:
    """Nobody would know whom to ask."""
    sentence = next(part for part in re.split(r"\.\s", PAGE.read_text()) if "flex lane" in part)
    sellers = {name for name, endpoint in BUILT_IN.items() if endpoint.flex}
    assert set(re.findall(r"`([\w-]+)`", sentence)) == sellers
