"""The targets of one run in the batch lane, and their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from flatout.engine import Engine
from flatout.errors import ConfigError
from flatout.store.ledger import Batch, Ledger, Seen
from flatout.values import Call, Target

from .form import Form
from .lane_target import LaneTarget
from .targets import other_key, target_named, target_of


class LaneTargets:
    """The targets that a run's rows and batches name, each made when it is first needed.

    Args:
        engine: the client's.
        ledger: the run file's.
        wall: the clock; Unix time.
        known: the batches of earlier processes.
        form: what the rows ask for, and how they are written.
    """

    def __init__(
        self, engine: Engine, ledger: Ledger, wall: Callable[[], float], known: Sequence[Batch], form: Form
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._wall = wall
        self._known = known
        self._form = form
        self._made: dict[str, LaneTarget] = {}
        self._by_model: dict[str | None, LaneTarget] = {}

    def __iter__(self) -> Iterator[LaneTarget]:
        return iter(tuple(self._made.values()))

    def of(self, call: Call) -> LaneTarget:
        """The target of a call.

        Raises:
            ConfigError: its model has no batch lane.
        """
        found = self._by_model.get(call.model)
        if found is None:
            name = call.model or self._engine.targets.model
            if name is None:
                raise ConfigError("no model: name one, such as openai/gpt-5-mini, with -m or model=")
            found = self._by_model[call.model] = self._target(target_of(self._engine, name))
        return found

    def named(self, name: str) -> LaneTarget:
        """The target with a name, as the ledger has it.

        Raises:
            ConfigError: this client has none.
        """
        return self._target(target_named(self._engine, name))

    def check_keys(self, run: str) -> None:
        """Look whether this client can collect the open batches of earlier processes.

        Raises:
            ConfigError: they belong to another key, or to a target that this client does not have.
        """
        for batch in self._known:
            if batch.state in ("intended", "open") and batch.key != self.named(batch.target).desk.target.key:
                raise ConfigError(other_key(run, batch.number, batch.target))

    @property
    def open_batches(self) -> list[Batch]:
        """The batches that a provider has, or may have."""
        return [batch for each in self for batch in each.desk.batches.values()]

    @property
    def seen(self) -> dict[int, Seen]:
        """What the providers last said of them, by the batch's number."""
        return {number: seen for each in self for number, seen in each.desk.seen.items()}

    def _target(self, target: Target) -> LaneTarget:
        found = self._made.get(target.name)
        if found is None:
            found = self._made[target.name] = LaneTarget(self._engine, target, self._ledger, self._wall, self._form)
            found.desk.learn(batch for batch in self._known if batch.target == target.name)
        return found
