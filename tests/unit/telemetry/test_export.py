"""What `exporting` refuses before anything is sent. What it sends is tested against real servers."""

from __future__ import annotations

import asyncio
import sys

import pytest

from flatout import ConfigError
from flatout.telemetry import exporting
from tests.support.scripted_wire import Wire, client


def enter(*given, **options) -> None:
    async def main() -> None:
        async with client(Wire()) as made, exporting(made, *given, **options):
            pass

    asyncio.run(main())


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter.prometheus", "prometheus_client"])
def test_a_missing_extra_is_named(monkeypatch, missing):
    """Users would see an ImportError from the depths, after the first call was paid."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'flatout\[otel\]'"):
        enter(metrics=0)


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://host", "http://", "grpc://host:4317"])
def test_a_collector_is_an_http_address(url):
    """A mistyped address would be noticed when the run is over."""
    with pytest.raises(ConfigError, match="collector"):
        enter(url)


def test_nothing_asked_is_nothing_done(monkeypatch):
    """Every run would need the extra."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    enter()
