"""Finds files elsewhere with fsspec, an extra: ``s3://``, ``gs://``, ``https://``, ``hf://``.

Credentials are found where each package looks for them: in the environment, in its own files, in fsspec's settings.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from flatout.errors import ConfigError

from .afar import Afar, safe
from .formats import by_suffix
from .many import is_hidden
from .names import shown

CONNECT, SILENCE = 30.0, 60.0
"""Seconds to wait for a connection, and for the next bytes."""

_WEB = ("http", "https")
_NEEDS = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "az": "adlfs",
    "abfs": "adlfs",
    "memory": "fsspec",
}
"""The schemes that are read, each with the package that fsspec needs for it."""

WRITTEN = ("s3://", "gs://", "az://", "hf://")
"""Where files can be written, for messages."""

_AT_ONCE = {"s3": 2, "az": 8, "abfs": 8}
"""Blocks of an upload that are sent at once: of 50 MB to S3, of 4 MB to Azure's store.

All of them are in memory. By their packages' own choice, that is a gigabyte, and most of the file.
"""

_MARKED = re.compile(r"[*?\[]")


def places(url: str) -> list[Afar] | Afar:
    """The file that a URL names, or the files, if it is a pattern or a folder.

    Raises:
        ConfigError: nothing of that kind is read, or there is nothing.
    """
    name, scheme = shown(url), url.partition(":")[0].lower()
    files, file = _file_system(url, scheme, name)
    one = Afar(files, file, name)
    if scheme in _WEB:
        return one
    is_pattern = _MARKED.search(url) is not None
    folder = _MARKED.split(file)[0].rpartition("/")[0] if is_pattern else file
    is_folder = one.looked(lambda: files.isdir(folder))  # also for a pattern: its listing may take minutes
    if is_pattern:
        found = one.tried(lambda: dict(files.glob(file, detail=True)))
    elif is_folder or url.endswith("/"):
        found = one.tried(lambda: dict(files.find(file, detail=True)))
        found = {each: info for each, info in found.items() if _is_data(each, file)}
    else:
        return one
    paths = sorted(path for path, info in found.items() if info.get("type") != "directory")
    if not paths:
        raise ConfigError(f"{name}: matches no file")
    return [Afar(files, path, files.unstrip_protocol(path)) for path in paths]  # a listed name hides no password


def place_of(url: str) -> Afar:
    """The one file that a URL names, which need not exist.

    Raises:
        ConfigError: files cannot be written there.
    """
    name, scheme = shown(url), url.partition(":")[0].lower()
    if scheme in _WEB:
        raise ConfigError(f"{name}: web servers take no files; name one here, or at {', '.join(WRITTEN)}")
    return Afar(*_file_system(url, scheme, name), name)


def _is_data(file: str, folder: str) -> bool:
    return by_suffix(file) is not None and not is_hidden(PurePosixPath(file.removeprefix(folder)))


def _file_system(url: str, scheme: str, name: str) -> tuple[Any, str]:
    """Fsspec's file system for a URL, and the file in it."""
    if (needed := _NEEDS.get(scheme)) is None:
        raise ConfigError(f"{name}: {scheme}:// is no place that flatout knows; use files here and copy them")
    try:
        import fsspec
    except ImportError:
        raise ConfigError(
            f"{name}: a file elsewhere needs fsspec, which is not installed: pip install 'flatout[remote]'"
        ) from None
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    try:
        if scheme in _WEB:
            options |= _web_options(fsspec, url)
        if scheme in _AT_ONCE:
            options["max_concurrency"] = _AT_ONCE[scheme]
        found, file = fsspec.url_to_fs(url, **options)
    except ImportError:
        raise ConfigError(f"{name}: {scheme}:// needs {needed}, which is not installed: pip install {needed}") from None
    except Exception as error:
        raise ConfigError(f"{name}: {safe(error, url, name)}") from None
    return found, str(file)


def _web_options(fsspec: Any, url: str) -> dict[str, Any]:
    import aiohttp

    configured = fsspec.config.conf.get("http", {}).get("client_kwargs", {})
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
    return {
        "client_kwargs": {"timeout": timeout, **configured},
        "headers": {"Accept-Encoding": "identity"},  # otherwise parts of a packed form would come
        "encoded": "%" in url,  # as a signature is made over it
    }
