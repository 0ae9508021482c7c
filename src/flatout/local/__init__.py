"""The embedded model: real answers without a key and without a network, for trials, demos and tests.

SmolLM2-135M-Instruct is small enough for any laptop, and too small to be right about most things. It is good for
testing everything around the answers: whether a prompt file is read as meant, whether a run resumes, how flatout
behaves with a real server. `pull` fetches the weights once. `LocalServer` runs llama.cpp's own HTTP server on them, in
separate processes.
"""

from __future__ import annotations

from .model import MODEL_NAME, check, model_path, pull
from .server import DEFAULT_SLOTS, SYSTEM, LocalServer, endpoint, serve_forever

__all__ = [
    "DEFAULT_SLOTS",
    "MODEL_NAME",
    "SYSTEM",
    "LocalServer",
    "check",
    "endpoint",
    "model_path",
    "pull",
    "serve_forever",
]
