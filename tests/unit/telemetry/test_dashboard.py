"""The dashboard for Grafana in examples/grafana, against the metrics that a run serves."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flatout import Client, Limits
from flatout.telemetry._together import kept
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport, run_virtual

DASHBOARD = Path(__file__).parents[3] / "examples" / "grafana" / "flatout.json"
PRICES = {"prices": {"openai/m": {"input": 1.0, "output": 2.0}}}

FUNCTIONS = frozenset({"sum", "max", "by", "rate", "histogram_quantile", "label_values", "le"})
NAME = re.compile(r"[a-z_]{2,}")


def served() -> dict[str, set[str]]:
    """The labels of each metric that runs serve, by its name: with and without prices, while calls wait."""
    found: dict[str, set[str]] = defaultdict(set)

    async def main() -> None:
        for prices in (PRICES, {}):
            settings = ProviderSettings(faults=Faults(server_error=0.2, invalid=0.2), latency=0.5)
            transport = SimulatedTransport(ProviderModel(settings))
            limits = Limits(concurrency=4, rpm=6_000)
            async with Client("openai/m", transport=transport, api_key="k", config=prices, limits=limits) as client:
                with kept(client) as metrics:
                    asyncio.get_running_loop().call_later(1.2, lambda metrics=metrics: read(metrics()))
                    await client.gather([f"prompt {number}" for number in range(40)])
                    read(metrics())

    def read(text: bytes) -> None:
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found[sample.name] |= sample.labels.keys()

    run_virtual(main())
    return found


def queries(value: Any) -> Iterator[str]:
    """All PromQL in a dashboard."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name in ("expr", "query") and isinstance(each, str) and each != "prometheus":
                yield each
            yield from queries(each)
    elif isinstance(value, list):
        for each in value:
            yield from queries(each)


def names_of(query: str) -> tuple[set[str], set[str]]:
    """The metrics of a query, and the labels that it asks for."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]', "", query)
    labels = {name for part in re.findall(r"\{([^}]*)\}|by \(([^)]*)\)", bare) for name in NAME.findall(" ".join(part))}
    if called := re.search(r"label_values\((\w+), (\w+)\)", bare):
        labels.add(called[2])
    rest = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", bare)
    return set(NAME.findall(rest)) - FUNCTIONS - labels, labels - {"le"}


@pytest.mark.parametrize(
    ("query", "metrics", "labels"),
    [
        (
            'sum by (a_b, le) (rate(m_total{c_d=~"$x"}[$__rate_interval])) * 60',
            {"m_total"},
            {"a_b", "c_d"},
        ),
        ("label_values(m_total, a_b)", {"m_total"}, {"a_b"}),
        ("max(m_ratio)", {"m_ratio"}, set()),
    ],
)
def test_names_are_found_in_a_query(query: str, metrics: set[str], labels: set[str]) -> None:
    """The dashboard could ask for anything."""
    assert names_of(query) == (metrics, labels)


def test_every_metric_and_label_of_the_dashboard_is_served() -> None:
    """A panel would stay empty, and nobody would know whether nothing happens or the name is wrong."""
    found = served()
    asked = list(queries(json.loads(DASHBOARD.read_text(encoding="utf-8"))))
    assert len(asked) > 15
    for query in asked:
        metrics, labels = names_of(query)
        assert metrics, query
        for metric in metrics:
            assert metric in found, query
            assert labels <= found[metric], query


def test_every_metric_of_flatouts_own_is_on_the_dashboard() -> None:
    """What is measured would be seen nowhere."""
    asked = " ".join(queries(json.loads(DASHBOARD.read_text(encoding="utf-8"))))
    own = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in served() if name.startswith("flatout_")}
    assert not {name for name in own if name not in asked}


def lost(given: Any, known: Any, place: str = "") -> Iterator[str]:
    """Where a value of the dashboard is not in what Grafana's types made of it. They add their defaults."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, each in given.items():
            yield from lost(each, known.get(name), f"{place}/{name}")
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for number, each in enumerate(given):
            yield from lost(each, known[number], f"{place}/{number}")
    elif given != known:
        yield place


def test_grafanas_own_types_know_every_field() -> None:
    """Grafana would drop a misspelt setting in silence: a panel without its unit, its legend or its threshold."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder").JSONEncoder

    def known(dashboard: Any) -> Any:
        return json.loads(encoder().encode(models.Dashboard.from_json(dashboard)))

    given = json.loads(DASHBOARD.read_text())
    assert list(lost(given, known(given))) == []
    given["panels"][0]["titel"] = "misspelt"
    assert list(lost(given, known(given))) == ["/panels/0/titel"]


def test_a_legend_says_that_it_is_shown() -> None:
    """Nobody would know which curve is which: Grafana's schema asks for these fields, and its types hide the legend."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    plots = [panel["options"] for panel in panels if panel["type"] == "timeseries"]
    assert plots
    assert all(
        plot["legend"]["showLegend"] and "calcs" in plot["legend"] and "sort" in plot["tooltip"] for plot in plots
    )
