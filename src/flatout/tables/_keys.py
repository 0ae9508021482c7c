"""Keys stay in the process that read them: what is sent to other processes holds none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flatout.errors import ConfigError
from flatout.values.secret import Secret, conceal, veil, veiled_url

_HOLD_KEYS = ("api_key", "headers")


def concealed(options: dict[str, Any]) -> None:
    """Conceal what may hold a key among the options of a client."""
    for name in ("api_key", "base_url"):
        if name in options:
            options[name] = conceal(options[name])
    if "headers" in options:
        options["headers"] = veil(options["headers"])


def without_keys(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they are pickled.

    Raises:
        ConfigError: one of them is a key.
    """
    for name in _HOLD_KEYS:
        if options.get(name) is not None:
            raise ConfigError(f"{name} is not pickled: {_STAYS}")
    plain = {name: value for name, value in options.items() if name not in _HOLD_KEYS}
    if isinstance(address := plain.get("base_url"), Secret):
        plain["base_url"] = address.reveal()
        if veiled_url(plain["base_url"]) != plain["base_url"]:
            raise ConfigError(f"a base_url with a key in it is not pickled: {_STAYS}")
    return plain


_STAYS = (
    "keys stay in the process that read them; set the key's environment variable where the work is done, or name it "
    "in a flatout.toml there"
)
