"""The targets that have lanes, and the batches that a client can collect."""

from __future__ import annotations

from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.values import Target


def target_of(engine: Engine, model: str, lane: str = "batch") -> Target:
    """The target of a model that can be asked in a lane.

    Raises:
        ConfigError: it is a route, or the embedded model; or as for `flatout.providers.targets.Targets.target`.
    """
    if engine.targets.is_local(model):
        raise ConfigError(f"the embedded model has no {lane} lane: take live")
    if engine.targets.routes.find(model) is not None:
        raise ConfigError(
            f"{model} is a route, and the {lane} lane takes one target: name one of {_listed(engine, model)}"
        )
    return engine.targets.target(model)


def unpriced(engine: Engine, model: str | None) -> str:
    """What to say where a batch is reckoned at the live price because no price of its own is known; "" elsewhere.

    The prices are loaded.
    """
    name = model or engine.targets.model
    if name is None:
        return ""
    target, prices = engine.targets.target(name), engine.stack.prices
    if prices.share(target, "batch") != 1.0 or prices.is_free(target):
        return ""
    return (
        f"no price of batches is known at {target.endpoint.name}, so they are reckoned at the live price: give theirs "
        f'in flatout.toml, as [prices."{target.name}@batch"]'
    )


def target_named(engine: Engine, name: str) -> Target:
    """The target with a name, as a run file has it.

    Raises:
        ConfigError: this client has none.
    """
    for model in (name, name.partition("/")[2]):
        target = engine.targets.target(model)
        if target.name == name:
            return target
    raise ConfigError(f"batches of {name} are open, but the models of this command are others")


def other_key(run: str, number: int, target: str) -> str:
    """The sentence for batches of another key."""
    return (
        f"batch {number} in {run} was submitted to {target} with another key or at another address, and only that key "
        "can collect it: use that key"
    )


def _listed(engine: Engine, model: str) -> str:
    return ", ".join(engine.targets.routes.models(model))
