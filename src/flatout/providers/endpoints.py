"""The endpoint that a base URL or a table of flatout.toml describes: its address, and the variable of its key."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from flatout.config.file import EndpointConfig
from flatout.errors import ConfigError
from flatout.text.redact import redact_url
from flatout.values import Endpoint
from flatout.values.secret import Secret

from . import registry
from .wire.payload import check_headers


def endpoint_of(name: str, table: EndpointConfig) -> Endpoint:
    """The endpoint that a table of flatout.toml describes, without its key.

    Raises:
        ConfigError: the table is incomplete, or would send a provider's key to a stranger.
    """
    base = registry.find(table.provider or name) if table.provider or registry.known(name) else None
    if base is None and table.base_url is None:
        raise ConfigError(f"the endpoint {name} in flatout.toml has neither a base_url nor a provider")
    url = Secret(address(Secret(table.base_url)) if table.base_url else base.base_url if base else "")
    where = registry.origin(url.reveal())
    own_key = base.key_env if base is not None and registry.is_own_place(base, url.reveal()) else None
    key_env = table.key_env or own_key
    owner = registry.owner_of(key_env) if key_env else None
    if owner is not None and registry.origin(owner.base_url) != where and owner.base_url:
        raise ConfigError(
            f"the endpoint {name} would send {key_env} to {where}, but that key belongs to "
            f"{registry.origin(owner.base_url)}: name another variable in key_env"
        )
    check_headers(table.headers, f"the endpoint {name} in flatout.toml")
    shape = base or Endpoint(name=name, base_url=url.reveal())
    return msgspec.structs.replace(
        shape,
        name=name,
        base_url=url.reveal(),
        key_env=key_env,
        key_required=key_env is not None,
        headers={**shape.headers, **table.headers},
        query={**shape.query, **table.query},
        system=table.system or shape.system,
        group=table.group,
    )


def address(base_url: Secret) -> str:
    """A base URL that requests can be sent to. It may hold a key, so no local variable here holds it in plain text.

    Raises:
        ConfigError: it cannot be used.
    """
    bare = Secret(base_url.reveal().strip())  # a copied address may end with a blank or a line break
    if "@" in bare.reveal().partition("://")[2].partition("/")[0]:
        raise ConfigError("the base URL contains a user name or password: give the key separately instead")
    if not _is_usable(bare.reveal()):
        raise ConfigError(f"the base URL {redact_url(bare.reveal())!r} is not an http:// or https:// address")
    return bare.reveal().rstrip("/")


def _is_usable(url: str) -> bool:
    if any(map(str.isspace, url)):
        return False
    try:
        parts = urlsplit(url)
        if parts.scheme == registry.UNIX:
            return bool(registry.socket_of(url))
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # malformed brackets or port
        return False


def host_and_path(endpoint: Endpoint) -> str:
    """Where an endpoint is, without what its base URL may hold beside that, such as a key."""
    parts = urlsplit(redact_url(endpoint.base_url))
    return f"{parts.netloc}{parts.path}"


def without_own_port(where: str) -> str:
    """An address, without its port if it is on this machine: a local server takes another port each time it starts."""
    host, slash, path = where.partition("/")
    name = urlsplit(f"//{host}").hostname
    return f"{name}{slash}{path}" if name in registry.LOOPBACK else where
