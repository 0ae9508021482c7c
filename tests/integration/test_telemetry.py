"""Telemetry on real sockets: an OTLP collector, one that is down, one that hangs, and Prometheus itself."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flatout import Client, ConfigError, Limits
from flatout.telemetry import exporting, invoke_agent
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.command_samples import PATIENCE, eventually
from tests.support.loop_turns import turns

CALLS = 50
QUERIES = ("up == 1", "flatout_attempts_total", "gen_ai_client_operation_duration_seconds_count")


def simulated(**options) -> Client:
    model = ProviderModel(ProviderSettings(latency=0.0), 1)
    return Client("m", base_url="http://sim/v1", transport=SimulatedTransport(model), config={}, **options)


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP; or hangs."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, bytes]] = []
        self.released = threading.Event()
        if not hangs:
            self.released.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list:
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.received if path == "/v1/traces"]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> set[str]:
        requests = [ExportMetricsServiceRequest.FromString(body) for path, body in self.received if "metrics" in path]
        return {
            metric.name
            for request in requests
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.released.wait(60)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append((self.path, body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@contextmanager
def collector(**options) -> Iterator[Collector]:
    server = Collector(**options)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_traces_and_metrics_reach_a_collector():
    """`--otlp` would send nothing, or lose the end of the run."""

    async def main(url: str) -> None:
        async with simulated() as client, exporting(client, url, flush=PATIENCE):
            with invoke_agent("clerk"):
                results = await client.gather([f"private {n}" for n in range(CALLS)])
        assert all(result.ok for result in results)

    with collector() as server:
        asyncio.run(main(server.url))
        names = [span.name for span in server.spans]
        assert sorted(set(names)) == ["chat m", "invoke_agent clerk"]
        assert names.count("chat m") == CALLS
        (agent,) = (span for span in server.spans if span.name != "chat m")
        assert all(
            span.parent_span_id == agent.span_id for span in server.spans if span is not agent and span.name == "chat m"
        )
        assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "flatout.attempts"} <= server.metrics
        assert not any(b"private" in body for _, body in server.received)


def test_a_collector_that_is_down_costs_one_line(caplog):
    """A run would fail or stop for its telemetry, or fill the terminal with tracebacks."""
    told: list[str] = []

    async def main(url: str) -> None:
        async with turns(0.1) as turned, simulated() as client:
            async with exporting(client, url, flush=2, warn=told.append):
                results = await client.gather([str(n) for n in range(CALLS)])
                assert all(result.ok for result in results)
                before = turned()
            assert turned() - before <= 1.5 * 2 / 0.1  # not the SDK's own minute

    with socket.socket() as silent:  # nobody else can take its port, and it does not listen
        silent.bind(("127.0.0.1", 0))
        asyncio.run(main(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        eventually(lambda: told)  # the threads of a busy machine may take longer than the run waits for them
    assert len(told) == 1
    assert "does not reach 127.0.0.1" in told[0]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_collector_that_hangs_does_not_hold_the_run():
    """The command would hang after its last answer."""

    async def main(url: str) -> None:
        async with turns(0.1) as turned, simulated() as client:
            async with exporting(client, url, flush=0.5, warn=lambda _: None):
                await client.gather([str(n) for n in range(CALLS)])
                before = turned()
            assert turned() - before <= 2 * 0.5 / 0.1

    with collector(hangs=True) as server:
        asyncio.run(main(server.url))
        assert server.received == []


def test_metrics_are_served_as_prometheus_text():
    """`--metrics` would serve nothing, or keep the port after the run."""

    async def main() -> tuple[str, str]:
        async with simulated() as client, exporting(client, metrics=0) as exported:
            await client.gather([str(n) for n in range(CALLS)])
            url = exported.metrics_url
            return url, await asyncio.to_thread(fetch, url)

    url, text = asyncio.run(main())
    assert url.startswith("http://127.0.0.1:")
    counted = [line for line in text.splitlines() if line.startswith("flatout_attempts_total{")]
    assert len(counted) == 1
    assert counted[0].endswith(f" {CALLS}.0")
    assert 'flatout_outcome="answered"' in counted[0]
    for name in (
        "gen_ai_client_operation_duration_seconds_bucket",
        "gen_ai_client_token_usage_bucket",
        "flatout_in_flight",
        "target_info",
    ):
        assert name in text
    with pytest.raises(OSError, match="refused"):
        fetch(url)


def test_a_port_in_use_is_an_error_before_the_run():
    """The run would go on, unwatched."""
    with socket.create_server(("127.0.0.1", 0)) as taken:

        async def main() -> None:
            async with simulated() as client, exporting(client, metrics=taken.getsockname()[1]):
                pass

        with pytest.raises(ConfigError, match="cannot be served"):
            asyncio.run(main())


def test_prometheus_scrapes_a_run(tmp_path):
    """The text would look right and be refused by the one program that reads it."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("Prometheus is not installed (Debian package: prometheus)")
    config = tmp_path / "prometheus.yml"

    async def main() -> dict:
        async with simulated(limits=Limits(concurrency=10)) as client, exporting(client, metrics=0) as exported:
            where = exported.metrics_url.removeprefix("http://").removesuffix("/metrics")
            scrape = {"job_name": "flatout", "scrape_interval": "1s", "static_configs": [{"targets": [where]}]}
            config.write_text(json.dumps({"scrape_configs": [scrape]}), encoding="utf-8")  # JSON is YAML
            await client.gather([str(n) for n in range(CALLS)])
            return await asyncio.to_thread(scraped, prometheus, config, QUERIES)

    found = asyncio.run(main())
    assert found["up == 1"] == "1"
    assert found["flatout_attempts_total"] == str(CALLS)
    assert found["gen_ai_client_operation_duration_seconds_count"] == str(CALLS)


def scraped(prometheus: str, config: Path, queries: tuple[str, ...]) -> dict[str, str]:
    """What Prometheus answers to some queries."""
    command = [
        prometheus,
        f"--config.file={config}",
        f"--storage.tsdb.path={config.parent / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        where = next(filter(None, (re.search(r'"Listening on".* address=(\S+)', line) for line in server.stderr)))[1]
        return {query: ask(where, query) for query in queries}
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)


def ask(where: str, query: str) -> str:
    """A query's first value, as soon as Prometheus has one. A busy machine may have it miss some scrapes."""
    url = f"http://{where}/api/v1/query?{urlencode({'query': query})}"
    found: list[str] = []

    def answered() -> bool:
        with suppress(OSError):
            found.extend(each["value"][1] for each in json.loads(fetch(url))["data"]["result"])
        return bool(found)

    eventually(answered)
    return found[0]
