"""Nothing is left over when a loop is left early, or when a part of what is closed fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from flatout import Client
from flatout.tasks.closing import close_all, reading
from flatout.testing import run_virtual
from tests.support.scripted_wire import Wire, client


class Source:
    """An endless async generator that notes when its own cleanup has run."""

    def __init__(self) -> None:
        self.closed = False

    async def prompts(self) -> AsyncGenerator[str, None]:
        number = 0
        try:
            while True:
                number += 1
                yield f"question {number}"
        finally:
            await asyncio.sleep(0)  # as a database cursor takes its time to close
            self.closed = True


async def echo(item: str, made: Client) -> str:
    return (await made.call(item)).text


READERS: dict[str, Callable[[Client, Any, Path], AsyncGenerator[Any, None]]] = {
    "plain": lambda made, source, path: made.as_completed(source),
    "models": lambda made, source, path: made.as_completed(source, models=["a", "b"]),
    "samples": lambda made, source, path: made.as_completed(source, samples=2),
    "store": lambda made, source, path: made.as_completed(source, store=path),
    "models, samples and store": lambda made, source, path: made.as_completed(
        source, models=["a", "b"], samples=2, store=path
    ),
    "map": lambda made, source, path: made.map(echo, source),
    "map and store": lambda made, source, path: made.map(echo, source, store=path),
}


@pytest.mark.parametrize("reader", READERS)
def test_the_users_generator_is_closed_when_the_loop_is_left(reader: str, tmp_path: Path) -> None:
    """A cursor or a file of the user's would stay open until the garbage collector comes by."""
    source = Source()

    async def main() -> None:
        async with client(Wire()) as made:
            async with aclosing(READERS[reader](made, source.prompts(), tmp_path / "run.flatout")) as results:
                async for _ in results:
                    break
            assert source.closed

    asyncio.run(main()) if "store" in reader else run_virtual(main())


def test_the_users_generator_is_closed_when_gather_gives_up() -> None:
    """The first failure ends the whole, and would leave the input open."""
    source = Source()

    async def main() -> None:
        async with client(Wire(lambda prompt: ValueError("no"))) as made:
            with pytest.raises(Exception, match="no"):
                await made.gather(source.prompts(), strict=True)
            assert source.closed

    run_virtual(main())


def test_a_cleanup_that_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever leaves a loop early has what they wanted; a failing cleanup would be an error in its place, or silent."""

    async def prompts() -> AsyncGenerator[str, None]:
        try:
            yield "a"
            yield "b"
        finally:
            raise OSError("the disk is gone")

    async def main() -> None:
        async with reading(prompts()) as source:
            async for _ in source:
                break

    with caplog.at_level(logging.WARNING, "flatout"):
        asyncio.run(main())
    assert "the input failed while it was closed" in caplog.text
    assert "the disk is gone" in caplog.text


def test_every_part_is_closed_and_the_first_failure_raised() -> None:
    """Connections, locks and the local model would outlive a client of which one part failed to close."""
    closed: list[str] = []

    def part(name: str, error: BaseException | None = None, *, later: bool = True) -> Callable[[], Any]:
        async def close() -> None:
            closed.append(name)
            if error is not None:
                raise error

        def close_now() -> None:
            closed.append(name)
            if error is not None:
                raise error

        return close if later else close_now

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await close_all(
                part("a"), part("b", asyncio.CancelledError()), part("c", OSError(), later=False), part("d")
            )

    asyncio.run(main())
    assert closed == ["a", "b", "c", "d"]


def test_a_client_closes_all_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport that fails to close would leave the shared limits locked and the local model running."""
    closed: list[str] = []

    class Held:
        def close(self) -> None:
            closed.append("shared")
            raise OSError("second")

        def stop(self) -> None:
            closed.append("local")

    class Broken(Wire):
        async def close(self) -> None:
            raise OSError("first")

    async def main() -> None:
        made = client(Broken())
        await made.call("hi")
        made._engine._local = Held()  # type: ignore[assignment]  # stands in for the embedded model
        made._engine.stack.limiters._found.update(
            {("a", ""): (None, Held()), ("b", ""): (None, Held())}
        )  # and these for shared limits
        with pytest.raises(OSError, match="first"):
            await made.close()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert closed == ["shared", "shared", "local"]
