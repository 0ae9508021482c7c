"""Which model a name means that a client of the gateway asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from flatout.config.file import Config
from flatout.errors import ConfigError
from flatout.providers import registry
from flatout.providers.targets import Targets

_MOST_KNOWN = 4_096

LONGEST = 200
"""Most characters of a name that is looked for: it is compared with those of all models."""

_FAMILIES = (
    ("claude", "anthropic"),
    ("gemini", "gemini"),
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-", "openai"),
)
"""The providers of models that clients ask for by their bare names."""


class UnknownModel(Exception):
    """No model is served by that name. The message says so, and names one that may be meant."""


class Models:
    """The models that a gateway serves.

    Args:
        targets: finds their targets.
        config: the configuration, whose models and routes are served as well.
        given: the models that are served, by ``provider/model`` or a route's name. Without any, all that the
            configuration and the keys in the environment allow.
    """

    def __init__(self, targets: Targets, config: Config, given: Sequence[str] = ()) -> None:
        self._targets = targets
        self._any = not given
        named = [*given, *config.routes]
        if self._any:
            listed = [model for route in config.routes.values() for model in route.targets]
            named += [model for model in (targets.model, *config.limits, *listed) if model and "/" in model]
        self._names = dict.fromkeys(named)
        self._found: dict[str, str] = {}
        self._missing: dict[str, str] = {}  # why a name means nothing
        for name in self._names:
            self._found.setdefault(name, name)
        for name in self._names:
            if config.routes.get(name) is None:
                self._found.setdefault(name.partition("/")[2] or name, name)
        self._served = dict(self._found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @property
    def any(self) -> bool:
        """Whether every model of a provider is served whose key is here, and not only the named ones."""
        return self._any

    def find(self, name: str) -> str:
        """The whole name of a model: that of a target, or of a route.

        Raises:
            UnknownModel: none is served by that name.
        """
        if not name and len(self._names) == 1:
            return next(iter(self._names))
        if (found := self._found.get(name)) is not None:
            return found
        if len(name) > LONGEST:
            raise UnknownModel(f"a model's name has at most {LONGEST} characters, not {len(name):,}")
        if (why := self._missing.get(name)) is not None:
            raise UnknownModel(why)
        if len(self._found) + len(self._missing) >= _MOST_KNOWN:
            self._found, self._missing = dict(self._served), {}
        try:
            found = self._found[name] = self._other(name)
        except UnknownModel as unknown:
            self._missing[name] = str(unknown)
            raise
        return found

    def _other(self, name: str) -> str:
        """A model that is not listed, but can be asked.

        Raises:
            UnknownModel: it cannot be asked, or only what is listed is served.
        """
        if not name:
            raise UnknownModel("the request names no model")
        why = ""
        for whole in self._meant(name) if self._any else ():
            try:
                self._targets.all(whole)
            except ConfigError as error:
                why = why or f" ({error})"
            else:
                return whole
        raise UnknownModel(f"the model {name!r} is not served here{self._nearest(name)}{why}")

    def _meant(self, name: str) -> list[str]:
        provider = next((each for start, each in _FAMILIES if name.startswith(start)), None)
        return [name] if "/" in name or provider is None else [f"{provider}/{name}", name]

    def _nearest(self, name: str) -> str:
        known = [*self._served, *(f"{each}/" for each in registry.BUILT_IN if self._any)]
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        if close and not close[0].endswith("/"):
            return f"; did you mean {close[0]}?"
        return f"; served are {', '.join([*self._names][:10])}" if self._names else ""
