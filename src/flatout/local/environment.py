"""What child processes get of this process' environment: what they need by name, and so none of its keys.

Environments hold the keys of everything that somebody works with. A program that does not get them cannot lose them;
and llama.cpp's server would even take ``LLAMA_API_KEY`` for the key that it is to ask of its callers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

_NAMES = frozenset({"HOME", "LANG", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"})

_PREFIXES = ("DYLD_", "LC_", "LD_", "PYTHON")

COMPUTING = ("CUDA_", "GGML_", "HIP_", "HSA_", "KMP_", "NVIDIA_", "OMP_", "OPENBLAS_", "ROCR_", "VK_", "ZE_")
"""Prefixes of what libraries that compute are set up with."""

FETCHING = ("HTTP", "PIP_", "XDG_", "CURL_CA", "REQUESTS_CA", "SSL_CERT", "NO_PROXY", "ALL_PROXY", "NETRC")
"""Prefixes of what pip is set up with: the index, proxies, certificates."""


def environment(also: Sequence[str], **own: str) -> dict[str, str]:
    """The environment of a child process.

    Args:
        also: prefixes, in capitals, of more variables that it needs, such as `COMPUTING`.
        own: variables of its own.
    """
    prefixes = (*_PREFIXES, *also)
    kept = {name: value for name, value in os.environ.items() if name in _NAMES or name.upper().startswith(prefixes)}
    return {**kept, **own}
