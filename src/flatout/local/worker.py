"""The program of one model process: llama.cpp's HTTP server, alive as long as its parent.

It is run by its path and imports nothing of flatout, so its start takes no longer than loading the model. Its standard
input is a pipe that the parent holds open and never writes to. When the pipe ends, the parent is gone, however it died,
and this process ends too. It writes ``ready`` to standard output once it can answer.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from typing import Any

_ORPHAN_POLL = 1.0  # seconds; detects a dead parent whose end of the pipe another process has inherited


def main() -> None:
    """Serve until the parent closes the pipe or is gone."""
    options = json.loads(sys.argv[1])
    ready = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints a log, which is not part of the protocol
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    server = _serve(options)
    print("ready", file=ready, flush=True)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # the log explains a failed start; after that it would only grow
    os.dup2(quiet, 2)
    threading.Event().wait()
    del server


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        if select.select([0], [], [], _ORPHAN_POLL)[0]:
            break
    os._exit(0)  # the library's threads would outlive a tidy exit


def _serve(options: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.model_alias = {options["name"]}
    params.hostnames = [options["host"]]
    params.port = options["port"]
    params.reuse_port = options["share_port"]
    params.n_parallel = options["slots"]
    params.n_ctx = options["slots"] * options["context"]
    params.n_threads_http = options["connections"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    params.verbosity = 1  # errors only
    params.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts
    params.fit_params = False  # keep the requested context, whatever memory is free
    params.cors_origins = ""  # no web page may call this server
    params.ui = params.endpoint_slots = False
    params.offline = True
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
