"""The environment of child processes: only the variables they need, and so none of our keys.

An environment holds the keys of everything that somebody works with. A program that does not get them cannot leak them.
And llama.cpp's server would take ``LLAMA_API_KEY`` for the key to ask of its callers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

_NAMES = frozenset({"HOME", "LANG", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"})

_PREFIXES = ("DYLD_", "LC_", "LD_", "PYTHON")

COMPUTING = ("CUDA_", "GGML_", "HIP_", "HSA_", "KMP_", "NVIDIA_", "OMP_", "OPENBLAS_", "ROCR_", "VK_", "ZE_")
"""Prefixes of variables that configure computing libraries."""

FETCHING = ("HTTP", "PIP_", "XDG_", "CURL_CA", "REQUESTS_CA", "SSL_CERT", "NO_PROXY", "ALL_PROXY", "NETRC")
"""Prefixes of variables that configure pip: the index, proxies, certificates."""


def environment(also: Sequence[str], **own: str) -> dict[str, str]:
    """The environment of a child process.

    Args:
        also: prefixes, in capitals, of more variables to pass on, such as `COMPUTING`.
        own: variables to set.
    """
    prefixes = (*_PREFIXES, *also)
    kept = {name: value for name, value in os.environ.items() if name in _NAMES or name.upper().startswith(prefixes)}
    return {**kept, **own}
