"""The embedded model: real answers without a key and without a network, for trials, demos and tests.

SmolLM2-135M-Instruct is small enough for any laptop and small enough to be wrong about most things. What it is
good for is everything around the answers: whether a prompt file is read as meant, whether a run resumes, how
flatout behaves against a real server. `pull` fetches its weights once, `LocalServer` runs llama.cpp's own HTTP
server on them, in processes of their own.
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
