"""Adds up the metrics of several processes, as if they were one.

Prometheus reads one address. So each process says now and then what its metrics are, in Prometheus' own text, and one
of them serves the sum.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from . import _conventions as names
from ._export import check_installed, listen, meter_provider_of, resource
from ._observed import Observed

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_LARGEST = frozenset({"target_info", names.METRIC_LIMIT.replace(".", "_")})
"""Metrics of which the largest counts. Of all others it is the sum."""


class Together:
    """Adds up the metrics of several processes, whenever somebody reads them."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, str] = {}
        self._ended: set[Hashable] = set()

    def hear(self, process: Hashable, text: bytes) -> None:
        """Take the metrics of a process, as `kept` has them. They replace what it said before."""
        self._texts[process] = text.decode()

    def over(self, process: Hashable) -> None:
        """Keep what an ended process counted, without what it was doing."""
        self._ended.add(process)

    def collect(self) -> Iterator[Metric]:
        """The sums, for a registry of Prometheus' client. Runs in the server's thread."""
        from prometheus_client.core import Metric
        from prometheus_client.parser import text_string_to_metric_families

        found: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for process, text in tuple(self._texts.items()):
            for family in text_string_to_metric_families(text):
                if family.type == "gauge" and process in self._ended:
                    continue
                found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                sums, combine = values.setdefault(family.name, {}), max if family.name in _LARGEST else _add
                for sample in family.samples:
                    key = sample.name, tuple(sample.labels.items())
                    sums[key] = combine(sums[key], sample.value) if key in sums else sample.value
        for name, metric in found.items():
            for (sample_name, labels), value in values[name].items():
                metric.add_sample(sample_name, dict(labels), value)
            yield metric

    @asynccontextmanager
    async def served(self, port: int, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Within the block, serve the sums to Prometheus. Yields the address.

        Raises:
            ConfigError: the extra ``otel`` is not installed, or the port is not available.
        """
        check_installed()
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        async with AsyncExitStack() as stack:
            yield listen(stack, host, port, registry)


@contextmanager
def kept(client: Observed) -> Iterator[Callable[[], bytes]]:
    """Within the block, keep a client's metrics. Yields a function that tells them, as Prometheus' text.

    Raises:
        ConfigError: the extra ``otel`` is not installed.
    """
    check_installed()
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry, generate_latest

    from ._metrics import measure

    registry = CollectorRegistry()
    provider = meter_provider_of([PrometheusMetricReader(registry=registry, scope_info_enabled=False)], resource())
    leave = measure(client, meter_provider=provider)
    try:
        yield partial(generate_latest, registry)
    finally:
        leave()
        provider.shutdown()


def _add(one: float, other: float) -> float:
    return one + other
