"""The rows of a batch in their provider's own batches, for half the price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from flatout.errors import ConfigError, ContentFiltered, Refused
from flatout.lanes.batch.form import Form
from flatout.lanes.offers import Kind, lanes_of
from flatout.lanes.refusals import check_model
from flatout.layer import Response
from flatout.providers import registry
from flatout.providers.relay.codec import RelayCodec, spoken_by
from flatout.values import Call, Reply, Target

from .batch_rows import kept
from .models import Models, UnknownModel

if TYPE_CHECKING:
    from flatout.engine import Engine

LANE = "lane"
"""What a batch's metadata calls the way in which its rows are asked: ``batch`` or ``live``."""

Lane = Literal["live", "batch"]

_KINDS: Mapping[str, Kind] = {"openai": "chat", "openai-responses": "responses", "embeddings": "embeddings"}


def lane_of(
    metadata: Mapping[str, Any] | None, named: Iterable[str], models: Models, engine: Engine, *, budgeted: bool
) -> Lane:
    """The lane of a batch: what its metadata says; else its provider's own batches, where flatout knows them.

    A server at somebody's own address is not known to have batches.

    Args:
        metadata: the batch's.
        named: the models that its rows name.
        models: says which model a name means.
        engine: has the targets.
        budgeted: whether its caller has a budget of its own, which the provider's batches are not held to.
    """
    wanted = (metadata or {}).get(LANE)
    if wanted in ("live", "batch"):
        return "batch" if wanted == "batch" else "live"
    if budgeted:
        return "live"
    asked = [*Asked(models, engine).all(named)]
    try:
        for model in asked:
            check_model("batch", engine, model)
    except ConfigError:
        return "live"
    known = (engine.targets.target(model).endpoint.name in registry.BUILT_IN for model in asked)
    return "batch" if asked and all(known) else "live"


class Asked:
    """Says which model's batches are asked for a name: of a route, the first of its models that has batches.

    Args:
        models: says which model a name means.
        engine: has the targets.
    """

    def __init__(self, models: Models, engine: Engine) -> None:
        self._models = models
        self._engine = engine

    def __call__(self, name: str) -> str:
        """The model for a name.

        Raises:
            UnknownModel: none is served by that name.
        """
        found = self._models.find(name)
        targets = self._engine.targets
        each = targets.routes.models(found)
        return next((model for model in each if not targets.is_local(model) and _has(targets.target(model))), found)

    def all(self, names: Iterable[str]) -> Iterator[str]:
        """The models for names, without those that are not served: each of their rows fails by itself."""
        for name in names:
            with suppress(UnknownModel):
                yield self(name)


def _has(target: Target) -> bool:
    return "batch" in lanes_of(target)


class _WholeAnswers(RelayCodec):
    """Reads answers whole: see `flatout.serve.batch_rows.kept`."""

    def decode(self, call: Call, response: Response, /) -> Reply:
        try:
            reply = super().decode(call, response)
        except (Refused, ContentFiltered) as error:
            if error.reply is None:
                raise
            reply = error.reply
        return kept(reply, reply.body)


def form_of(dialect: str) -> Form:
    """What rows ask for that are written in a format of clients.

    Args:
        dialect: the format of their requests.
    """
    return Form(partial(_kind, dialect), partial(_codec, dialect))


def _kind(dialect: str, target: Target) -> Kind | None:
    return None if spoken_by(target, dialect) is None else _KINDS.get(dialect)


def _codec(dialect: str, target: Target) -> RelayCodec:
    return _WholeAnswers(target, dialect)
