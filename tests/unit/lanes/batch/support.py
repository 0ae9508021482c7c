"""What the tests of batch formats share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from flatout.lanes.batch.format import Found, Line, ResultReader
from flatout.layer import Response
from flatout.providers.registry import find
from flatout.values import Target
from flatout.values.secret import Secret

KEY = "sk-a-key-of-tests-0123456789"


def target(provider: str, model: str = "m", base_url: str | None = None) -> Target:
    """A provider's target, with a key."""
    endpoint = replace(find(provider), api_key=Secret(KEY), account="mine")
    return Target(replace(endpoint, base_url=base_url) if base_url else endpoint, model)


def answer(data: Any, status: int = 200) -> Response:
    """An answer with JSON."""
    return Response(status, {"content-type": "application/json"}, json.dumps(data).encode())


def lines(*bodies: dict[str, Any], stamp: str = "s") -> list[Line]:
    """Rows of a batch."""
    return [Line(f"{stamp}-{index}", json.dumps(body).encode()) for index, body in enumerate(bodies)]


def read(reader: ResultReader, data: bytes, cuts: Sequence[int] = ()) -> list[Found]:
    """All rows of a file, read in pieces."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    rows: list[Found] = []
    for start, end in pairwise(places):
        rows.extend(reader.feed(data[start:end]))
    return [*rows, *reader.end()]
