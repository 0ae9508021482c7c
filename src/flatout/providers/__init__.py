"""Providers: pure codecs between values and bytes, and the endpoints that speak them."""

from __future__ import annotations

from collections.abc import Callable

from flatout.errors import ConfigError
from flatout.layer import Codec
from flatout.values import Target

from .formats.anthropic import Anthropic
from .formats.gemini import Gemini
from .formats.openai_chat import OpenAIChat
from .formats.openai_responses import OpenAIResponses

_CODECS: dict[str, Callable[[Target], Codec]] = {
    "openai": OpenAIChat,
    "openai-responses": OpenAIResponses,
    "anthropic": Anthropic,
    "gemini": Gemini,
}
"""The codecs by dialect. A new wire format is a module and a row here."""


def codec_for(target: Target) -> Codec:
    """The codec for a target, chosen by its endpoint's dialect.

    Raises:
        ConfigError: no codec speaks the dialect, or the endpoint's address, key or headers cannot be used.
    """
    codec = _CODECS.get(target.endpoint.dialect)
    if codec is None:
        known = ", ".join(_CODECS)
        raise ConfigError(f"{target.endpoint.name} speaks {target.endpoint.dialect!r}; this version speaks {known}")
    return codec(target)
