"""``flatout watch --web``: serves the live page of a run, and opens it in a browser."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import webbrowser
from pathlib import Path

from .run_names import find_later
from .terminal import clean, say


def watch_web(run: str, port: int, *, show: bool) -> int:
    """Serve the page until a signal comes."""
    if not _has_begun(find_later(run)):
        say(f"flatout: there is no run of {clean(run)} yet; the page shows it as soon as it begins")
    _serve(run, port, show=show)
    return 0


def _serve(run: str, port: int, *, show: bool) -> None:
    from flatout.errors import ConfigError

    with asyncio.Runner() as loop:
        try:
            loop.run(_until_signalled(run, port, show=show))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise ConfigError(f"cannot listen at port {port}: {why}; try another --port") from None


def _has_begun(place: Path) -> bool:
    """Whether there is a run to show. A fault of its file is reported at once."""
    from flatout.store import RunNotBegun, RunReader

    if not place.exists():
        return False
    try:
        with RunReader.open(place) as reader:
            reader.info()
    except RunNotBegun:
        return False
    return True


async def _until_signalled(run: str, port: int, *, show: bool) -> None:
    from flatout.look.web.live import LiveRun
    from flatout.look.web.serve import served

    stopped = asyncio.Event()
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(ending, stopped.set)
    async with served(LiveRun(clean(run), lambda: find_later(run)), port) as address:
        say(f"flatout: {clean(run)} is shown at {address} until Ctrl-C")
        if show and _has_browser():
            threading.Thread(target=_open, args=(address,), daemon=True).start()
        await stopped.wait()


def _has_browser() -> bool:
    """Whether there is a screen for a browser: one for the terminal would take the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _open(address: str) -> None:
    try:
        webbrowser.open(address)
    except (webbrowser.Error, OSError) as error:
        say(f"flatout: no browser could be opened: {clean(str(error))}")
