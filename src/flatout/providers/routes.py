"""Routes by their names: those of flatout.toml, and those that a model's name spells out."""

from __future__ import annotations

from collections.abc import Mapping

from flatout.config.file import RouteConfig
from flatout.errors import ConfigError
from flatout.values.route import Route, parsed

from .consent import EMBEDDED


class Routes:
    """Finds the route that a model's name means.

    Args:
        tables: the ``[routes.NAME]`` tables.
        own_server: whether all models are on one server of the user's (``base_url``). Then the names of routes in
            flatout.toml may be its models.

    Raises:
        ConfigError: a table lists another route, or has a name that no route can have.
    """

    def __init__(self, tables: Mapping[str, RouteConfig], *, own_server: bool) -> None:
        self._found: dict[str, Route | None] = {}
        for name, table in {} if own_server else tables.items():
            _check_name(name)
            for target in table.targets:
                if target in tables:
                    which = "itself" if target == name else f"the route {target}"
                    raise ConfigError(f"the route {name} in flatout.toml lists {which} as a target: name models there")
            if name in table.fallback.values():
                raise ConfigError(f"the route {name} in flatout.toml has itself as a fallback")
            self._found[name] = table.route()

    def find(self, model: str) -> Route | None:
        """The route of a name; None if it names a single target.

        Raises:
            ConfigError: the name spells out a route that cannot be used.
        """
        if model not in self._found:
            self._found[model] = parsed(model)
        return self._found[model]

    def models(self, model: str) -> tuple[str, ...]:
        """The models that stand for a name."""
        route = self.find(model)
        return (model,) if route is None else route.targets

    def reachable(self, model: str) -> tuple[str, ...]:
        """The models that stand for a name, and those that its fallbacks name, and theirs."""
        names, models = [model], dict.fromkeys(self.models(model))
        for name in names:
            route = self.find(name)
            for other in () if route is None else route.fallback.values():
                if other not in names:
                    names.append(other)
                    models |= dict.fromkeys(self.models(other))
        return tuple(models)


def _check_name(name: str) -> None:
    if name == EMBEDDED or not name.strip() or any(sign in name for sign in "/(),="):
        raise ConfigError(
            f"a route in flatout.toml cannot be named {name!r}: take a word other than {EMBEDDED}, without a slash, "
            "such as [routes.fast]"
        )
