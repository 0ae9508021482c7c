"""Clients of httpx2 and httpx whose requests a flatout client answers."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, overload

from flatout.client import engine_of
from flatout.errors import ConfigError

from ._door import Door
from ._home import home_of
from ._transports import AsyncTransport, Transport

if TYPE_CHECKING:
    import httpx
    import httpx2

    from flatout.client import Client


@overload
def http_client(client: Client, *, sync: Literal[False] = ..., legacy: Literal[False] = ...) -> httpx2.AsyncClient: ...
@overload
def http_client(client: Client, *, sync: Literal[True], legacy: Literal[False] = ...) -> httpx2.Client: ...
@overload
def http_client(client: Client, *, sync: Literal[False] = ..., legacy: Literal[True]) -> httpx.AsyncClient: ...
@overload
def http_client(client: Client, *, sync: Literal[True], legacy: Literal[True]) -> httpx.Client: ...


def http_client(client: Client, *, sync: bool = False, legacy: bool = False) -> Any:
    """An HTTP client for a vendor's SDK or a framework, whose requests the flatout client answers.

    Give the program ``max_retries=0`` or what it calls that: flatout retries already. Its own timeout bounds one
    attempt; by default that is the flatout client's ``timeout``.

    Args:
        client: paces, retries, caches and bills the requests. Leave it open as long as they go on.
        sync: make a synchronous one, which many threads may use at once. The flatout client then works in its own event
            loop if it is open in one, and else in a thread of its own; there, closing the last synchronous client
            closes it as well.
        legacy: make a client of httpx, for programs that do not take httpx2 yet.

    Raises:
        ConfigError: the package is not installed.
    """
    return of_package(client, "httpx" if legacy else "httpx2", sync=sync)


def of_package(client: Client, package: str, *, sync: bool) -> Any:
    """A client of ``httpx`` or ``httpx2``; see `http_client`."""
    if find_spec(package) is None:
        raise ConfigError(f"this needs the package {package}: pip install '{_NEEDED[package]}'")
    their, door = import_module(package), Door(engine_of(client), package)
    options = {"timeout": engine_of(client).settings.timeout, "trust_env": False}
    if sync:
        return their.Client(transport=Transport(door, home_of(client)), **options)
    return their.AsyncClient(transport=AsyncTransport(door), **options)


_NEEDED = {"httpx2": "flatout[sdk]", "httpx": "httpx"}
