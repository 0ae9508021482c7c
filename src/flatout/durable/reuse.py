"""A run file as a cache: the answers of an earlier run, for the same questions to the same model at the same place."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec.structs import replace

from flatout.errors import RunDamaged, StoreError
from flatout.values import Call
from flatout.values.kept import Kept

from .asked import Server, server_of
from .records import content, fingerprint, is_cached, result_of

if TYPE_CHECKING:
    from flatout.store import Item, RunReader

_log = logging.getLogger("flatout")


class RunAnswers:
    """The answers in a run file. They are only read.

    Args:
        path: the run file.
        model: the model of calls that name none.
        servers: where the calls to some models go now.

    Raises:
        StoreError: the file is no run file, or cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: str | None,
        servers: Callable[[Sequence[str] | None], Server],
    ) -> None:
        from flatout.store import RunReader  # loads SQLite

        self._path = os.fspath(path)
        self._model = model
        self._servers = servers
        self._reader: RunReader = RunReader.open(path)
        try:
            self._job = self._reader.info().job
            self._reader.index_answers()
        except BaseException:
            self._reader.close()
            raise
        self._thread = ThreadPoolExecutor(1, "flatout reuse")
        self._broken = False

    async def get(self, call: Call) -> Kept | None:
        """The answer of an equal call in the run; None if there is none."""
        if self._broken:
            return None
        model = call.model or self._model
        if model is None or server_of(self._job.get("server"), model) != server_of(self._servers([model]), model):
            return None
        made = [fingerprint(content(replace(call, model=model)))]
        if self._job.get("model") == model:
            made.append(fingerprint(content(replace(call, model=None))))
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, made, call)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)
        self._thread.shutdown(wait=False)

    def _find(self, made: list[bytes], call: Call) -> Kept | None:
        try:
            item = next((item for each in made if (item := self._reader.answered(each)) is not None), None)
            return None if item is None else kept_of(item, call)
        except (StoreError, RunDamaged, ValueError) as error:
            self._broken = True
            _log.warning("the answers of %s are not used any more: %s", self._path, error)
            return None


def kept_of(item: Item, call: Call) -> Kept | None:
    """An item as a kept answer to an equal call; None if it was cut off."""
    reply = result_of(replace(item, output=None), call).reply
    if reply is None or reply.finish_reason == "length":
        return None
    cost = None if is_cached(item) else item.cost  # it cost nothing in that run, and something in an earlier one
    return Kept.of(reply, at=item.finished_at, cost=cost, whole=False)
