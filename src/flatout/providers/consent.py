"""What in a flatout.toml sends prompts or keys to an unexpected place.

A reader of ``openai/gpt-5-mini`` expects OpenAI, with their own key. But a flatout.toml may give an endpoint of that
name another address, and it may give any environment variable to any endpoint as its key. Both are useful, and both are
what the author of a malicious repository would write. So a file that flatout found needs the user's approval for them.
A file that the user named needs none.
"""

from __future__ import annotations

from collections.abc import Iterator

from flatout.config.file import EndpointConfig
from flatout.text.redact import is_secret
from flatout.values import Endpoint

from . import registry

EMBEDDED = "local"
"""The name of the embedded model's provider."""


def unexpected(endpoint: Endpoint, table: EndpointConfig) -> Iterator[str]:
    """What an endpoint of a flatout.toml does unexpectedly, in words that follow "it sends".

    Args:
        endpoint: the endpoint that the table describes.
        table: the table.
    """
    where = registry.origin(endpoint.base_url) if endpoint.base_url else "the address in the environment"
    named = registry.BUILT_IN.get(endpoint.name)
    if endpoint.name == EMBEDDED or (named is not None and not registry.is_own_place(named, endpoint.base_url)):
        yield f"the calls for {endpoint.name} to {where}"
    elif named is not None:
        for name in (*table.headers, *table.query):
            if is_secret(name):
                yield f"the calls for {endpoint.name} under its own {name}"
    owner = registry.owner_of(endpoint.key_env) if endpoint.key_env else None
    if endpoint.key_env and (owner is None or not registry.is_own_place(owner, endpoint.base_url)):
        yield f"the variable {endpoint.key_env} to {where}"
