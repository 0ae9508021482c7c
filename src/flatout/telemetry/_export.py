"""Sends traces and metrics to a collector, and serves the metrics to Prometheus: ``--otlp URL``, ``--metrics PORT``.

Telemetry must never harm a run. Its own threads send everything, a collector that is down causes a single warning, and
the last flush is bounded in time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flatout.errors import ConfigError
from flatout.text.redact import excerpt, redact_url
from flatout.values.secret import Secret, conceal

from ._observed import Observed

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client import CollectorRegistry

FLUSH = 5.0
"""Seconds for sending the last telemetry of a run."""

_QUEUE = 65_536
"""The most spans that wait to be sent; further ones are dropped. A burst of ten thousand calls fits in."""

_EVERY = 10.0
"""Seconds between two exports of the metrics."""

_SEND_TIMEOUT = 5.0
"""Seconds for one request to the collector, its retries included."""

_EXPORT_LOGS = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
)
"""The loggers of the SDK that report failed exports, at length and repeatedly."""

_NEEDED = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.prometheus",
    "prometheus_client",
)
"""The modules of the extra ``otel``."""

_REASON_CAP = 200
"""Characters of the reason in the warning about a failed export."""

_log = logging.getLogger("flatout")


class Exporting:
    """The export in progress.

    Attributes:
        metrics_url: the address of the metrics for Prometheus; None if they are not served.
        text: the metrics as Prometheus' text, if that was wanted; else nothing.
    """

    def __init__(self) -> None:
        self.metrics_url: str | None = None
        self.text: Callable[[], bytes] = bytes


@asynccontextmanager
async def exporting(
    client: Observed,
    otlp: str | Secret | None = None,
    metrics: int | None = None,
    *,
    host: str = "127.0.0.1",
    content: bool = False,
    text: bool = False,
    flush: float = FLUSH,
    warn: Callable[[str], None] = _log.warning,
) -> AsyncIterator[Exporting]:
    """Within the block, export a client's traces and metrics, and the spans of `span` and its relatives.

    Args:
        client: the client.
        otlp: the base URL of an OTLP/HTTP collector, such as ``http://localhost:4318``; its headers come from
            ``OTEL_EXPORTER_OTLP_HEADERS``.
        metrics: the port that serves the metrics to Prometheus; 0 for any free one.
        host: the address that this port listens on.
        content: record prompts and answers in the traces; see `trace_calls`.
        text: keep the metrics for whoever serves them; see `Exporting.text`.
        flush: seconds for sending the rest at the end.
        warn: called once, with a sentence, if the collector does not accept the telemetry.

    Raises:
        ConfigError: the extra ``otel`` is not installed, ``otlp`` is not a URL, or the port is not available.
    """
    otlp = conceal(otlp)  # it may hold a password
    exported = Exporting()
    async with AsyncExitStack() as stack:
        if otlp is not None or metrics is not None or text:
            _start(stack, exported, client, _collector(otlp), metrics, host, content, text, flush, warn)
        yield exported


def _start(
    stack: AsyncExitStack,
    exported: Exporting,
    client: Observed,
    otlp: Secret | None,
    port: int | None,
    host: str,
    content: bool,
    text: bool,
    flush: float,
    warn: Callable[[str], None],
) -> None:
    """Start the requested exports. The stack ends them in the opposite order."""
    check_installed()
    from ._calls import trace_calls
    from ._metrics import measure
    from ._spans import recording

    about = resource()
    readers: list[MetricReader] = []
    flushes: list[Callable[[], object]] = []
    hush = _Hush(warn)
    if port is not None or text:
        reader, registry = _for_prometheus()
        readers.append(reader)
        exported.text = partial(_as_text, registry)
        exported.metrics_url = None if port is None else listen(stack, host, port, registry)
    stack.push_async_callback(_flush, flushes, flush, hush)
    if otlp is not None:
        hush.start(otlp)
        readers.append(_metric_sender(otlp))
        tracer_provider = _tracer_provider(otlp, about)
        flushes.append(tracer_provider.shutdown)
        stack.callback(trace_calls(client, tracer_provider=tracer_provider, content=content))
        stack.enter_context(recording(tracer_provider, content=content))
    meter_provider = meter_provider_of(readers, about)
    flushes.append(partial(meter_provider.shutdown, timeout_millis=flush * 1000))
    stack.callback(measure(client, meter_provider=meter_provider))


def check_installed() -> None:
    """Check that the extra is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        for needed in _NEEDED:
            import_module(needed)
    except ImportError as error:
        raise ConfigError(
            f"exporting telemetry needs the extra otel ({error.name} is missing): pip install 'flatout[otel]'"
        ) from error


def _collector(url: Secret | None) -> Secret | None:
    """The collector's base URL. The path of a signal is removed, because it is appended later."""
    if url is None:
        return None
    if not _is_address(url.reveal()):
        what = redact_url(url.reveal())
        raise ConfigError(f"--otlp takes the http:// or https:// address of a collector, not {what!r}")
    return Secret(url.reveal().rstrip("/").removesuffix("/v1/traces").removesuffix("/v1/metrics"))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # invalid brackets
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def resource() -> Resource:
    """The service that reports. The user's ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win."""
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

    from flatout._version import __version__

    named = "OTEL_SERVICE_NAME" in os.environ or SERVICE_NAME in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: "flatout", SERVICE_VERSION: __version__})


def _tracer_provider(otlp: Secret, resource: Resource) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # its own shutdown has no time limit
    sender = OTLPSpanExporter(f"{otlp.reveal()}/v1/traces", timeout=_SEND_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(sender, max_queue_size=_QUEUE))
    return provider


def _metric_sender(otlp: Secret) -> MetricReader:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    sender = OTLPMetricExporter(f"{otlp.reveal()}/v1/metrics", timeout=_SEND_TIMEOUT)
    return PeriodicExportingMetricReader(sender, export_interval_millis=_EVERY * 1000)


def meter_provider_of(readers: list[MetricReader], resource: Resource) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider

    return MeterProvider(readers, resource=resource, shutdown_on_exit=False)


def _for_prometheus() -> tuple[MetricReader, CollectorRegistry]:
    """The reader to feed, and the registry that has the metrics for Prometheus."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()  # not the global one, so that only flatout's metrics are served
    return PrometheusMetricReader(registry=registry, scope_info_enabled=False), registry


def _as_text(registry: CollectorRegistry) -> bytes:
    from prometheus_client import generate_latest

    return generate_latest(registry)


def listen(stack: AsyncExitStack, host: str, port: int, registry: CollectorRegistry) -> str:
    """Serve what is in a registry, until the stack ends. Returns the address.

    Raises:
        ConfigError: the port is not available.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"metrics cannot be served on {host}:{port}: {error}") from error
    stack.push_async_callback(asyncio.to_thread, _stop, server, thread)
    return f"http://{host}:{server.server_port}/metrics"


def _stop(server: Any, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()


class _Hush:
    """Replaces everything that the SDK logs about failed exports with one warning."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._server = ""
        self._told = False

    def start(self, otlp: Secret) -> None:
        self._server = urlsplit(otlp.reveal()).netloc.rpartition("@")[2]
        for name in _EXPORT_LOGS:
            logging.getLogger(name).addFilter(self._pass)

    def end(self) -> None:
        for name in _EXPORT_LOGS:
            logging.getLogger(name).removeFilter(self._pass)

    def _pass(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if not self._told:
            self._told = True
            reason = excerpt(record.getMessage().partition("\n")[0], _REASON_CAP)
            self._warn(f"telemetry does not reach {self._server}: {reason} (further failures are not reported)")
        return False


async def _flush(flushes: list[Callable[[], object]], seconds: float, hush: _Hush) -> None:
    """Flush each in its own thread, and wait for all of them, at most ``seconds``."""
    loop = asyncio.get_running_loop()
    ends = [loop.create_future() for _ in flushes]

    def run(flush: Callable[[], object], end: asyncio.Future[None]) -> None:
        try:
            flush()
        except Exception as error:
            _log.debug("the last telemetry was lost: %s", type(error).__name__)
        with suppress(RuntimeError):  # the loop stopped waiting, and is closed
            loop.call_soon_threadsafe(_set, end)

    for flush, end in zip(flushes, ends, strict=True):
        # A daemon thread: the program would wait for the loop's own pool at its end, however long that takes.
        threading.Thread(target=run, args=(flush, end), name="flatout-telemetry", daemon=True).start()
    if ends:
        await asyncio.wait(ends, timeout=seconds)
    if all(end.done() for end in ends):  # otherwise, later failures would be logged after all
        hush.end()


def _set(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)
