"""What engines make of a limit, with flatout and by their own ways: ``python -m benchmarks.cluster [--rows 2000]``.

    python -m benchmarks.cluster [--rows 2000] [--rpm 6000] [--faults 0.03] [--latency 1.0] [--only ray daft]

Each way asks the same rows of the same simulated provider, in a process of its own, on Ray or Daft (``make
.venv-engines``). All of it is in a network of its own, because Ray listens on every interface; so it needs root on
Linux. What takes longer than ``--patience`` is ended.

- ``ray``, ``daft``: `flatout.ray.answer` and `flatout.daft.answer`, as they are.
- ``ray_defaults``: the class beneath, given to ``map_batches`` with nothing else than its batch format.
- ``ray_http``: Ray's own ``HttpRequestProcessor``, told of the rate (``qps``) and given five retries.
- ``daft_prompt``: Daft's own ``prompt``, which knows no limit; with five retries, and told to go on after errors.

``used`` is what was answered, against what the limit allows between the first request and the last. Last figures: see
docs/cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flatout.testing import Faults
from tests.support import engine_programs, own_network
from tests.support.command_samples import Provider, provider

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-engines" / "bin" / "python"
BURST = 4
"""Seconds of requests that the provider's bucket holds."""

Settings = Mapping[str, Any]


def ray_defaults(settings: Settings) -> dict[str, Any]:
    import ray

    import flatout.ray

    engine_programs.start_ray(settings)
    asked = texts(settings).map_batches(
        flatout.ray.Answers,
        fn_constructor_args=("{{ text }}",),
        fn_constructor_kwargs=engine_programs.options(settings),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    return engine_programs.checked(
        (row["id"], row["text"], row["answer"], row["error"])
        for table in ray.get(asked.to_arrow_refs())
        for row in table.to_pylist()
    )


def ray_http(settings: Settings) -> dict[str, Any]:
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    engine_programs.start_ray(settings)
    config = HttpRequestProcessorConfig(
        url=f"{settings['url']}/chat/completions", batch_size=64, qps=round(settings["rpm"] / 60), max_retries=5
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "payload": {"model": "any", "messages": [{"role": "user", "content": row["text"]}]},
            "id": row["id"],
            "text": row["text"],
        },
        postprocess=lambda row: {
            "id": row["id"],
            "text": row["text"],
            "answer": (row["http_response"].get("choices") or [{"message": {"content": None}}])[0]["message"][
                "content"
            ],
        },
    )
    rows = processor(texts(settings)).take_all()
    return engine_programs.checked(
        (row["id"], row["text"], row["answer"], None if row["answer"] else "no answer") for row in rows
    )


def daft_prompt(settings: Settings) -> dict[str, Any]:
    import daft
    from daft.ai.openai.provider import OpenAIProvider
    from daft.functions import prompt

    count = settings["rows"]
    frame = daft.from_pydict({"id": list(range(count)), "text": [f"row {n}" for n in range(count)]})
    asked = prompt(
        daft.col("text"),
        provider=OpenAIProvider(base_url=settings["url"], api_key="none", max_retries=5),
        model="any",
        use_chat_completions=True,
        on_error="ignore",
    )
    made = frame.with_column("answer", asked).to_pydict()
    return engine_programs.checked(
        (number, text, answer, None if answer else "no answer")
        for number, text, answer in zip(made["id"], made["text"], made["answer"], strict=True)
    )


def texts(settings: Settings) -> Any:
    """A Dataset of rows with an id and a text."""
    import ray

    return ray.data.from_items([{"id": n, "text": f"row {n}"} for n in range(settings["rows"])])


WAYS: Mapping[str, Callable[[Settings], dict[str, Any]]] = {
    "ray": engine_programs.ray,
    "ray_defaults": ray_defaults,
    "ray_http": ray_http,
    "daft": engine_programs.daft,
    "daft_prompt": daft_prompt,
}


def asked(way: str, server: Provider, settings: Settings, patience: float) -> str:
    """Ask the rows in one way, and say what became of them."""
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        given = {**settings, "url": server.url, "folder": folder}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1", "DAFT_PROGRESS_BAR": "0"}
        program = subprocess.Popen(
            [str(PYTHON), "-m", "benchmarks.cluster", "--way", way, "--settings", json.dumps(given)],
            cwd=ROOT,
            env={**os.environ, **quiet},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = program.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            program.terminate()  # Ray ends what it started
            program.communicate()
            out, err = "", f"Error: not finished after {patience:.0f} s"
    stats = server.stats()
    seconds = stats["last_at"] - stats["first_at"] if stats["received"] else 0.0
    used = stats["answered"] / seconds / (settings["rpm"] / 60) if seconds else 0.0
    told = f"{seconds:6.1f} s, {used:4.0%} used, {stats['received']:,} requests, {stats['refused']:,} refused: "
    lines = [line for line in out.splitlines() if line.startswith('{"rows"')]
    if not lines:
        why = [line for line in err.splitlines() if "Error" in line]
        return f"{told}the job ended: {why[-1].strip()[:160] if why else program.returncode}"
    ended = json.loads(lines[-1])
    good = ended["rows"] - ended["wrong"] - sum(ended["errors"].values())
    return f"{told}{good:,} of {settings['rows']:,} rows answered, {ended['seconds']:.1f} s with its start"


def compare(options: argparse.Namespace) -> None:
    share = options.faults
    faults = Faults(server_error=share / 2, overloaded=share / 4, reset=share / 4)
    settings = {"rows": options.rows, "rpm": options.rpm}
    for way in options.only or WAYS:
        with provider(latency=options.latency, rpm=options.rpm, burst=BURST, faults=faults) as server:
            print(
                f"{way:13}{asked(way, server, settings, options.patience)} (load {os.getloadavg()[0]:.0f})", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rpm", type=float, default=6_000)
    parser.add_argument("--faults", type=float, default=0.03)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--patience", type=float, default=120)
    parser.add_argument("--only", nargs="*", choices=WAYS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        began = time.time()
        told = WAYS[options.way](options.settings)
        print(json.dumps({**told, "seconds": time.time() - began}))
    elif not PYTHON.exists():
        sys.exit("the engines are not installed: make .venv-engines")
    elif not own_network.available():
        sys.exit("this needs a network of its own: Linux, as root")
    else:
        own_network.alone(lambda: compare(options))


if __name__ == "__main__":
    main()
