"""Turn a model's name into its target: which endpoint, whose key, which model there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flatout.config.file import Config, EndpointConfig, FoundConfig
from flatout.errors import ConfigError
from flatout.values import Endpoint, Limits, Target
from flatout.values.secret import Secret, Veiled, conceal, veil

from . import registry
from .consent import EMBEDDED, unexpected
from .endpoints import address, endpoint_of, host_and_path, without_own_port
from .routes import Routes
from .wire.payload import UNSENDABLE, can_be_sent, check_headers, shown

KEY_VARIABLE = "FLATOUT_API_KEY"
"""The environment variable with the key for ``base_url``."""

_ALIKE = 0.75  # how alike two names are of which one may be meant by the other; "gpt-5-mini" and "gemini" are 0.63


class Targets:
    """Resolves model names for one Client.

    A key belongs to one origin. ``api_key`` goes only to the default model's endpoint (or to ``base_url``), and the key
    variable of a built-in provider is never read for another server. If every account has its own address (Azure), the
    key goes only to the provider's own domains and to loopback, unless flatout.toml names the variable.

    Args:
        keyless: whether targets may lack the key that they need, because nothing is sent to them. The other arguments
            are those of `Client`.

    Raises:
        ConfigError: the default model, ``base_url`` or the configuration does not give a usable target.
    """

    def __init__(
        self,
        *,
        model: str | None,
        base_url: str | Secret | None,
        api_key: str | Secret | None,
        headers: Mapping[str, str] | None,
        limits: Limits | None,
        config: Config,
        keyless: bool = False,
    ) -> None:
        api_key, base_url, headers = conceal(api_key), conceal(base_url), veil(headers)
        _check_types(model=model, base_url=base_url, api_key=api_key)
        if limits is not None and not isinstance(limits, Limits):
            raise ConfigError(f"limits is a Limits, not {shown(limits)}: write limits=Limits(rpm=500)")
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigError(f"headers is a mapping of names to texts, not {shown(headers)}")
        self._config = config
        self._keyless = keyless
        self._limits = limits
        self._headers = headers or Veiled({})
        check_headers(self._headers, "headers")
        self._api_key = _secret(api_key, "api_key")
        self._server = self._at(base_url) if base_url is not None else None
        self._given_model = model
        self.model = config.model if model is None else str(model)  # a Route is known by its text
        if self.model is not None and not self.model.strip():
            raise ConfigError("the model's name is empty: write it as provider/model, or leave it out")
        if self._server is None:
            _check_limits(config)
        self.routes = Routes(config.routes, own_server=self._server is not None)
        self.client_limits = limits or Limits()
        self._changes: dict[str | None, dict[str, Any]] = {}  # by the target's name; None for all
        self._own = self._endpoints_of(self.model)
        if self._api_key is not None and self._server is None and len(self._own) > 1:
            several = ", ".join(sorted(self._own))
            raise ConfigError(
                f"api_key is one key, and {self.model} has targets of several endpoints ({several}): "
                "leave it out, and set each provider's own environment variable"
            )
        if self.model is not None:
            self.client_limits = self._together(self.routes.models(self.model))

    def is_local(self, model: str) -> bool:
        """Whether a name means the embedded model: ``local``, unless flatout.toml or ``base_url`` says otherwise."""
        return self._server is None and model == EMBEDDED and EMBEDDED not in self._config.endpoints

    def needs_local(self, model: str | None) -> bool:
        """Whether a model, or a route to several, needs the embedded one, which a client starts itself.

        Args:
            model: the model; the client's when None.
        """
        name = self.model if model is None else model
        return name is not None and any(map(self.is_local, self.routes.reachable(name)))

    @staticmethod
    def local(endpoint: Endpoint) -> Target:
        """The embedded model's target, once its server runs."""
        return Target(endpoint, "")

    def all(self, model: str) -> list[Target]:
        """The targets of a model's name, or of a route and its fallbacks, without the embedded model.

        Raises:
            ConfigError: one of them cannot be used, as for `target`.
        """
        return [self.target(name) for name in self.routes.reachable(model) if not self.is_local(name)]

    @property
    def has_server(self) -> bool:
        """Whether all calls go to one server, that of ``base_url``."""
        return self._server is not None

    def added(self) -> list[Endpoint]:
        """The endpoints that are not built in, without keys: that of ``base_url``, and those of flatout.toml."""
        own = [] if self._server is None else [msgspec.structs.replace(self._server, api_key=None)]
        return own + [endpoint_of(name, table) for name, table in self._config.endpoints.items()]

    def target(self, model: str) -> Target:
        """The target of a model's name.

        Raises:
            ConfigError: the name has no provider or an unknown one, or there is no key for it.
        """
        if self._server is not None:
            return Target(self._server, model)
        name, slash, rest = model.partition("/")
        if not slash:
            way_out = "write it as provider/model, such as openai/gpt-5-mini, or give a base URL"
            raise ConfigError(f"the model {model!r} names no provider{self._meant(model)}: {way_out}")
        if not rest:
            raise ConfigError(f"the model {model!r} names a provider only: write it as provider/model")
        if name == EMBEDDED and EMBEDDED not in self._config.endpoints:
            raise ConfigError(f"the only embedded model is named local, not {model!r}")
        endpoint = self._endpoint(name)
        if self._headers:
            endpoint = msgspec.structs.replace(endpoint, headers={**endpoint.headers, **self._headers})
        return Target(self._with_key(endpoint, own=name in self._own), rest)

    def _meant(self, name: str) -> str:
        """What was probably meant by a name without a provider, for a message: a model, a route or an endpoint."""
        config = self._config
        listed = [target for route in config.routes.values() for target in route.targets]
        models = [each for each in (config.model, *listed, *config.limits) if each is not None and "/" in each]
        names = {each: each for each in (*config.routes, EMBEDDED, *models)}
        names |= {each: f"{each}/…" for each in (*config.endpoints, *registry.BUILT_IN)}
        names |= {each.partition("/")[2]: each for each in models}
        close = get_close_matches(name.lower(), names, n=1, cutoff=_ALIKE)
        return f"; did you mean {names[close[0]]}?" if close else ""

    def elsewhere(self, model: str) -> str:
        """The host that a model's calls go to; "" if that is the provider's usual address, so that the name says it."""
        return self._address(model).partition("/")[0]

    def servers(self, models: Sequence[str] | None) -> str | dict[str, str] | None:
        """Where calls without a model of their own go, as run files store it: host and path, unless the name says it.

        Args:
            models: the models that are asked; None for the client's own.

        Returns:
            The address of ``base_url``, or else the addresses by model; None if the models' names say it all.
            Addresses on this machine have no port.
        """
        if self._server is not None:
            return without_own_port(host_and_path(self._server))
        names = models if models is not None else () if self.model is None else (self.model,)
        return {name: without_own_port(where) for name in names if (where := self._address(name))} or None

    def _address(self, model: str) -> str:
        if self.is_local(model) or self.routes.find(model) is not None:
            return ""
        endpoint = self.target(model).endpoint
        known = registry.BUILT_IN.get(endpoint.name)
        if known is not None and registry.origin(known.base_url) == registry.origin(endpoint.base_url):
            return ""
        return host_and_path(endpoint)

    def limits_of(self, target: Target) -> Limits:
        """The known limits of a target: keyword arguments over flatout.toml over the endpoint's own."""
        from_file = self._config.limits_for(target.endpoint.name, target.model).over(target.endpoint.limits)
        limits = (self._limits or Limits()).over(from_file)
        if not self._changes:
            return limits
        changed = self._changes.get(None, {}) | self._changes.get(target.limited[0], {})
        return msgspec.structs.replace(limits, **changed)

    def sharing(self, models: Iterable[str | None]) -> list[str]:
        """The names and places under which the limits of some models are shared, with those of their fallbacks.

        A model that cannot be used has none: its calls say why.
        """
        found: dict[str, None] = {}
        for model in filter(None, models):
            with suppress(ConfigError):
                found |= dict.fromkeys(filter(None, (self.limits_of(each).shared for each in self.all(model))))
        return list(found)

    def change(self, limits: Mapping[str, Any], target: str | None) -> None:
        """Change limits from now on, by their names; None takes one back.

        Args:
            limits: the limits that change.
            target: the name of the target, or of its group; None for all.

        Raises:
            ConfigError: a limit is not a number above 0.
        """
        Limits(**limits)
        if target is None:
            for others in self._changes.values():
                for name in limits:
                    others.pop(name, None)
        self._changes.setdefault(target, {}).update(limits)
        if self.model is not None:
            self.client_limits = self._together(self.routes.models(self.model))

    def _together(self, models: Sequence[str]) -> Limits:
        """The limits of several targets as one, as far as all of them are known."""
        each = self._by_group(models)
        if len(each) <= 1:
            return next(iter(each.values()), self._limits or Limits())
        rates = [limits.rpm for limits in each.values()]
        most = [limits.concurrency for limits in each.values()]
        return Limits(
            rpm=None if None in rates else sum(filter(None, rates)),
            concurrency=None if None in most else sum(filter(None, most)),
            shared=next((limits.shared for limits in each.values() if limits.shared is not None), None),
        )

    def _by_group(self, models: Sequence[str]) -> dict[tuple[str, str], Limits]:
        """The limits of models, by what they belong to.

        Raises:
            ConfigError: two targets of one group have different limits.
        """
        found: dict[tuple[str, str], Limits] = {}
        for target in (self.target(model) for model in models if not self.is_local(model)):
            limits = self.limits_of(target)
            if found.setdefault(target.limited, limits) != limits:
                raise ConfigError(
                    f"the endpoints of the group {target.endpoint.group!r} share their limits, but have different ones "
                    f"in flatout.toml: {found[target.limited]} and {limits}"
                )
        return found

    def _endpoint(self, name: str) -> Endpoint:
        table = self._config.endpoints.get(name)
        endpoint = registry.find(name, self._config.endpoints) if table is None else self._from_file(name, table)
        if (account := registry.ACCOUNT_ENV.get(endpoint.batch)) is not None:
            endpoint = msgspec.structs.replace(endpoint, account=os.environ.get(account, "").strip())
        if endpoint.base_url:
            return endpoint
        variable = registry.ADDRESS_ENV[(table and table.provider) or name]
        given = Secret(os.environ.get(variable, "").strip())
        if not given.reveal():
            raise ConfigError(f"{name} has an address of your own: set the environment variable {variable}")
        endpoint = msgspec.structs.replace(endpoint, base_url=address(given))
        if not (table and table.key_env) and not registry.at_home(endpoint.key_env, endpoint.base_url):
            raise ConfigError(_away(name, endpoint.key_env, endpoint.base_url))
        return endpoint

    def _from_file(self, name: str, table: EndpointConfig) -> Endpoint:
        """The endpoint of a table, if the table is allowed.

        Raises:
            ConfigError: flatout found the file itself, and what it does needs the user's approval.
        """
        endpoint = endpoint_of(name, table)
        file = self._config
        if isinstance(file, FoundConfig) and not file.trusted:
            does = [*unexpected(endpoint, table), *self._unasked(endpoint)]
            if does:
                raise ConfigError(
                    f"{file.path} sends {' and '.join(does)}. If you mean it, say so once: "
                    f"flatout trust {shlex.quote(file.path)}; or give the file by hand, with --config or config="
                )
        return endpoint

    def _endpoints_of(self, model: str | None) -> frozenset[str]:
        """The endpoints of a model, by their names; several for a route."""
        models = () if model is None else self.routes.models(model)
        return frozenset(name.partition("/")[0] for name in models)

    def _unasked(self, endpoint: Endpoint) -> Iterator[str]:
        """Which of the program's own secrets would go to a server that only the file has chosen."""
        chosen = endpoint.name in self._endpoints_of(self._config.model)
        if self._given_model is None and chosen and not registry.known(endpoint.name):
            if self._api_key is not None:
                yield f"the api_key to {registry.origin(endpoint.base_url)}"
            if self._headers:
                yield f"the headers to {registry.origin(endpoint.base_url)}"

    def _with_key(self, endpoint: Endpoint, *, own: bool) -> Endpoint:
        if own and self._api_key is not None:
            return msgspec.structs.replace(endpoint, api_key=self._api_key)
        key = _key_in(endpoint.key_env) if endpoint.key_env else None
        if key is not None:
            return msgspec.structs.replace(endpoint, api_key=key)
        if endpoint.key_required and not self._keyless:
            raise ConfigError(f"no key for {endpoint.name}: set the environment variable {endpoint.key_env}")
        return endpoint

    def _at(self, base_url: Secret) -> Endpoint:
        return Endpoint(
            name=urlsplit(address(base_url)).netloc,
            base_url=address(base_url),
            api_key=self._api_key or _key_in(KEY_VARIABLE),
            key_env=KEY_VARIABLE,
            key_required=False,
            headers=self._headers,
        )


def _check_limits(config: Config) -> None:
    """Refuse limits of an endpoint that does not exist: the endpoint that was meant would have none.

    One file may serve several programs, so limits of servers that others reach by ``base_url`` are let pass.
    """
    known = [*registry.BUILT_IN, *config.endpoints, EMBEDDED]
    for name in config.limits:
        endpoint = name.partition("/")[0]
        if endpoint not in known and not any(sign in endpoint for sign in ".:["):
            close = get_close_matches(endpoint, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"[limits.{name}]: no endpoint is named {endpoint!r}{hint}")


def _check_types(**options: object) -> None:
    for name, value in options.items():
        if value is not None and not isinstance(value, str | Secret):
            raise ConfigError(f"{name} is a string, not a {type(value).__name__}")


def _key_in(variable: str) -> Secret | None:
    return _secret(conceal(os.environ.get(variable)), f"the environment variable {variable}")


def _secret(key: Secret | None, where: str) -> Secret | None:
    """A key without surrounding blanks; None if nothing is left.

    Raises:
        ConfigError: no header can carry it.
    """
    bare = Secret(key.reveal().strip() if key is not None else "")
    if not can_be_sent(bare.reveal()):
        raise ConfigError(f"the key in {where} holds {UNSENDABLE}: copy it again")
    return bare if bare.reveal() else None


def _away(name: str, key_env: str | None, url: str) -> str:
    return (
        f"the endpoint {name} would send {key_env} to {registry.origin(url)}, where it does not belong: if it does, "
        f'say so in flatout.toml, with key_env = "{key_env}" under [endpoints.{name}]'
    )
