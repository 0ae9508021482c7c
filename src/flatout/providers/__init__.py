"""Providers: pure codecs between values and bytes, and the endpoints that speak them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from flatout.errors import ConfigError
from flatout.layer import Codec
from flatout.values import Call, Target

_CODECS = {
    "openai": ("openai_chat", "OpenAIChat"),
    "openai-responses": ("openai_responses", "OpenAIResponses"),
    "anthropic": ("anthropic", "Anthropic"),
    "gemini": ("gemini", "Gemini"),
}
"""The codecs by dialect: module and class. A new wire format is a module and a row here."""


def unasked_tokens(target: Target) -> Callable[[Call], int | None]:
    """A function that tells how many answer tokens a target's format asks for if a call has no ``max_tokens``.

    It returns None if the format then asks for no number.
    """
    if target.endpoint.dialect != "anthropic":
        return lambda _: None
    from .formats.anthropic import unasked_tokens

    return unasked_tokens


def codec_for(target: Target) -> Codec:
    """The codec for a target, chosen by its endpoint's dialect.

    Raises:
        ConfigError: no codec speaks the dialect, or the endpoint's address, key or headers cannot be used.
    """
    found = _CODECS.get(target.endpoint.dialect)
    if found is None:
        known = ", ".join(_CODECS)
        raise ConfigError(f"{target.endpoint.name} speaks {target.endpoint.dialect!r}; this version speaks {known}")
    module, name = found
    codec: Callable[[Target], Codec] = getattr(import_module(f".formats.{module}", __name__), name)
    return codec(target)
