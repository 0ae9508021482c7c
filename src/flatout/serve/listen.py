"""Serves the gateway until it is told to stop, and keeps its run file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from flatout.client import engine_of
from flatout.client.controlled import Control
from flatout.config.folders import state_folder
from flatout.durable.course import recorded
from flatout.durable.opening import opened
from flatout.errors import ConfigError
from flatout.http_server.server import HttpServer
from flatout.presence import AGAIN
from flatout.store.gateway import JOB
from flatout.transports import descriptors
from flatout.values.secret import Secret

from . import keys
from .batches import Batches
from .callers import Caller, Callers
from .calls import Calls
from .counting import Counting
from .files import FilePages, Files, room_for
from .gate import Gate
from .guard import Guard
from .loans import LOOK, Loans
from .models import Models
from .offered import Offered
from .priced import Priced
from .repeated import repeated
from .site import Page, Site
from .status import Status
from .steered import SteeredGateway

if TYPE_CHECKING:
    from flatout.client import Client
    from flatout.store import RunFile

KEEPALIVE = 75.0  # seconds; vendors' clients keep connections for up to a minute
PATIENCE = 60.0  # seconds in which a request must arrive whole, and an answer be read
SWEEP = 3_600.0  # seconds between two looks for files that have expired
GRACE = 10.0  # seconds that calls get at the end
MOST_CONNECTIONS = 10_000
MAX_BODY = 64 * 1024 * 1024
MOST_HELD = 512 * 1024 * 1024

_log = logging.getLogger("flatout")

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Asked(Struct, frozen=True, kw_only=True):
    """How to serve.

    Attributes:
        models: the models to serve; without any, all that the configuration and the keys in the environment allow.
        host, port: where to listen; port 0 takes a free one.
        allow_remote: whether other machines may connect. They need a local key.
        folder: where files and batches are kept; None for the usual place.
        store: the run file, which `flatout watch` shows; None for none.
        grace: seconds that calls get when the gateway stops.
        metrics: whether ``/metrics`` also tells what OpenTelemetry's conventions name of calls. It needs the extra
            ``otel``.
        otlp: the address of a collector for traces and metrics; None for none.
    """

    models: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = 0
    allow_remote: bool = False
    folder: str | None = None
    store: str | None = None
    grace: float = GRACE
    metrics: bool = False
    otlp: Secret | None = None


class Gateway:
    """A gateway and its parts. It answers requests in the event loop of its client.

    Args:
        client: answers the calls.
        asked: how to serve.
        keyring: the local keys.
    """

    def __init__(self, client: Client, asked: Asked, keyring: keys.Keyring) -> None:
        engine = engine_of(client)
        self.gate = Gate()
        self.loans = Loans(engine.stack.purse)
        self.callers = Callers(self.loans)
        self.models = Models(engine.targets, engine.config, asked.models)
        self.keyring = keyring
        own = engine.stack.purse

        def budgeted() -> bool:
            return keyring.has_budgets or (own.budget is not None and not own.worst_cases.allow_unknown_price)

        self.priced = Priced(engine, self.models, budgeted)
        self.status = Status(client, self.gate, self.callers, keyring)
        calls = Calls(engine, self.models, self.gate)
        folder = Path(asked.folder) if asked.folder is not None else usual_folder(asked.port)
        self.files = Files(folder / "files")
        self.batches = Batches(client, calls, self.models, self._owner, self.files, folder / "batches")
        kept = FilePages(self.files, self.batches.size)
        pages: dict[str, Page] = {
            "/status": self.status.json,
            "/metrics": self.status.metrics,
            "/files": kept.root,
            "/files/": kept.one,
            "/messages/count_tokens": Counting(engine, self.models),
            "/batches": self.batches.root,
            "/batches/": self.batches.one,
        }
        guard = Guard(keyring, remote=asked.host not in LOOPBACK)
        self.site = Site(guard, self.callers, calls, self.models, Offered(engine), pages)

    async def _owner(self, name: str) -> Caller:
        """The caller to whom a batch of an earlier process belongs. A budget that is away is waited for.

        Raises:
            ConfigError: it may no longer ask.
        """
        told = False
        while True:
            key = self.keyring.named(name)
            if key is None and (self.keyring or self.callers.was_removed(name)):
                raise ConfigError(f"there is no key of {name} any more")
            try:
                return await self.callers.of(name, None if key is None else key.allowed)
            except ConfigError as error:
                if not told:
                    _log.warning("the batches of %s wait for its budget: %s", name, error)
                told = True
            await asyncio.sleep(AGAIN)

    async def _sweep(self) -> None:
        await asyncio.to_thread(self.files.sweep)
        await self.batches.sweep()

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """A block in which the file of keys is followed, files expire, and loans that are not needed go back."""

        async def look() -> None:
            if removed := await asyncio.to_thread(self.keyring.look):
                names = {key.name for key in self.keyring}
                self.callers.remove(removed, names)
                self.gate.refuse(removed)
                self.batches.look_again(removed - names)

        tasks = [
            asyncio.create_task(repeated(look, keys.LOOK, "the file of keys is not followed")),
            asyncio.create_task(repeated(self.priced.look, keys.LOOK, "models without a price are not named")),
            asyncio.create_task(repeated(self._sweep, SWEEP, "files that have expired are not removed")),
            asyncio.create_task(repeated(self.loans.tend, LOOK, "what is lent and not needed does not go back")),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def served(client: Client, asked: Asked, stop: Callable[[], None] | None = None) -> AsyncIterator[str]:
    """A block in which a gateway serves; gives its address.

    Args:
        client: answers the calls; it is open.
        asked: how to serve.
        stop: called when somebody wants the gateway to end: then leave the block. None if ``flatout ctl`` cannot
            steer it.

    Raises:
        ConfigError: other machines could connect without being allowed to, or a model cannot be used.
        StoreError: the run file cannot be used.
        OSError: the port is taken.
    """
    keyring = await asyncio.to_thread(keys.Keyring, keys.place())
    check_reach(asked, keyring)
    gateway, engine = Gateway(client, asked, keyring), engine_of(client)
    for model in asked.models:
        engine.targets_of(model)
    await engine.find_shared(asked.models or None)
    server = HttpServer(
        gateway.site,
        KEEPALIVE,
        max_body=MAX_BODY,
        most=most_connections(),
        patience=PATIENCE,
        most_held=MOST_HELD,
        streamed=room_for,
    )
    async with AsyncExitStack() as stack:
        if asked.metrics or asked.otlp is not None:
            from flatout.telemetry import exporting  # importing OpenTelemetry is slow

            exported = await stack.enter_async_context(exporting(client, asked.otlp, text=asked.metrics))
            gateway.status.more = exported.text
        if asked.store is not None:
            store = await stack.enter_async_context(_recorded(client, asked.store))
            await gateway.loans.keep_in(store)
            await stack.enter_async_context(gateway.status.kept_in(store))
        if asked.store is not None and stop is not None:
            control = Control(asked.store, partial(SteeredGateway, stop=stop, grace=asked.grace))
            await control.open(engine)
            stack.push_async_callback(control.close)
        stack.push_async_callback(gateway.loans.close)
        await gateway.batches.open()
        stack.push_async_callback(gateway.batches.close)
        await stack.enter_async_context(gateway.tended())
        port = await server.listen(asked.host, asked.port)
        stack.push_async_callback(server.close, asked.grace)
        host = f"[{asked.host}]" if ":" in asked.host else asked.host
        yield f"http://{host}:{port}/v1"


def most_connections() -> int:
    """The most connections of clients: each of them needs a file, and its call another one for the provider."""
    files = descriptors.free()
    return MOST_CONNECTIONS if files is None else min(MOST_CONNECTIONS, max(1, files // 2))


def usual_folder(port: int) -> Path:
    """Where a gateway keeps its files. Each port has its own: two gateways do not work on one batch."""
    return state_folder() / "serve" / (str(port) if port else "any")


def check_reach(asked: Asked, keyring: keys.Keyring) -> None:
    """Refuse to serve other machines, unless that is wanted, and they need a key.

    Raises:
        ConfigError: it is refused.
    """
    if asked.host in LOOPBACK:
        return
    if not asked.allow_remote:
        raise ConfigError(f"at {asked.host} other machines can connect: add --allow-remote if you mean that")
    if not keyring:
        raise ConfigError("other machines need a key: make one with flatout serve key add NAME")


@asynccontextmanager
async def _recorded(client: Any, place: str) -> AsyncIterator[RunFile]:
    """A block in which the course of a client is recorded in a run file, without any call; gives the file."""
    store: RunFile = await opened(place, JOB)
    try:
        async with recorded(client, store):
            yield store
    finally:
        store.mark("finished")
        await store.close()
