"""Draws docs/live.svg, a moving picture of a real run: ``make picture``.

A real ``flatout run`` works in a terminal of its own against ``flatout simulate``, which goes down for two seconds.
What it writes is recorded with its times, read as a terminal reads it, and drawn.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

from rich.style import Style
from rich.text import Span, Text

PICTURE = Path(__file__).parents[1] / "live.svg"
ROWS, COLUMNS = 12, 100
PROMPTS = 700
EVERY = 0.25  # seconds between two frames
LAST = 4.0  # seconds for which the end is shown
CHARACTER, LINE, MARGIN = 8.4, 20, 16  # pixels
FONT = "ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace"
FOREGROUND, BACKGROUND = "#d7dae0", "#1d2026"

PROVIDER = ["simulate", "--port", "0", "--rpm", "6000", "--burst", "1", "--headers", "openai", "--outage", "3:5"]
SHOWN = "flatout run prompts.jsonl -o answers.jsonl -m acme/small --config acme.toml"
CONFIG = """
[endpoints.acme]
base_url = "{url}"
[limits.acme]
rpm = 6_000
burst = 1
[prices."acme/small"]
input = 0.25
output = 2.0
"""
FLATOUT = [sys.executable, "-m", "flatout"]

_PIECE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
Frame = tuple[str, ...]  # a screen's rows, with the marks for colours


class Screen:
    """As much of a terminal as the command uses. Whatever else it is sent is an error, so nothing is drawn wrong."""

    def __init__(self) -> None:
        self.rows = [""]
        self._row = self._column = 0
        self._styled = ""

    def write(self, text: str) -> None:
        """Take what a program has written."""
        end = 0
        for piece in _PIECE.finditer(text):
            if piece.start() != end:
                break
            end = piece.end()
            numbers, letter, control, words = piece.groups()
            if letter:
                self._obey(numbers, letter)
            elif control:
                self._row, self._column = (self._row, 0) if control == "\r" else (self._row + 1, self._column)
            else:
                self._put(words)
        if end != len(text):
            raise ValueError(f"this screen does not know {text[end : end + 20]!r}")

    def frame(self) -> Frame:
        """The last rows, as they are now."""
        return tuple(row.rstrip() for row in self.rows[-ROWS:])

    def _obey(self, numbers: str, letter: str) -> None:
        if letter == "m":
            self._styled = "" if numbers in ("", "0") else f"{self._styled}\x1b[{numbers}m"
        elif letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K":
            self._line()
            self.rows[self._row] = "" if numbers == "2" or not self._column else self.rows[self._row]
        elif letter not in "hl":  # the cursor is shown or hidden
            raise ValueError(f"this screen does not know {letter!r}")

    def _put(self, words: str) -> None:
        self._line()
        before = self.rows[self._row] if self._column else ""
        self.rows[self._row] = f"{before}{self._styled}{words}\x1b[0m" if self._styled else f"{before}{words}"
        self._column += len(words)

    def _line(self) -> None:
        self.rows += [""] * (self._row + 1 - len(self.rows))


def record() -> list[tuple[float, Frame]]:
    """The frames of a real run, each with its second."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_CACHE_HOME": folder, "COLUMNS": str(COLUMNS)}
        provider = subprocess.Popen([*FLATOUT, *PROVIDER], stderr=subprocess.PIPE, text=True)
        try:
            url = re.search(r"http://\S+/v1", provider.stderr.readline())[0]
            Path(folder, "acme.toml").write_text(CONFIG.format(url=url))
            rows = (json.dumps(f"Explain question number {number}.") for number in range(PROMPTS))
            Path(folder, "prompts.jsonl").write_text("\n".join(rows))
            return list(_frames(folder, environment))
        finally:
            provider.terminate()
            provider.wait()


def _frames(folder: str, environment: dict[str, str]) -> Iterator[tuple[float, Frame]]:
    screen = Screen()
    screen.write(f"$ {SHOWN}\r\n")
    yield 0.0, screen.frame()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command = [*FLATOUT, *shlex.split(SHOWN)[1:]]
    run = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    began, drawn = time.monotonic(), 0.0
    try:
        while data := os.read(ours, 65_536):
            screen.write(data.decode())
            if (now := time.monotonic() - began) >= drawn + EVERY:
                drawn = now
                yield now, screen.frame()
    except OSError:  # how Linux says that the program has closed its terminal
        pass
    if run.wait() != 0:
        raise SystemExit("\n".join(screen.rows))
    yield time.monotonic() - began, screen.frame()


def draw(frames: list[tuple[float, Frame]]) -> str:
    """One picture of all frames: a row that stays is drawn once, and shown for as long as it stays."""
    whole = frames[-1][0] + LAST
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, ROWS * LINE + 2 * MARGIN
    drawn = [_row(row, start, end, whole) for row, start, end in _stays(frames, whole)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
            "<title>flatout run: how far it is, how fast, what it waits for and what it cost</title>",
            f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
            f'<g font-family="{FONT}" font-size="14" fill="{FOREGROUND}">',
            *drawn,
            "</g>\n</svg>\n",
        ]
    )


def _stays(frames: list[tuple[float, Frame]], whole: float) -> Iterator[tuple[tuple[int, str], float, float]]:
    """Each row's text, by its place, with the seconds from when until when it stands there."""
    standing: dict[int, tuple[str, float]] = {}
    for at, frame in [*frames, (whole, ())]:
        for place in range(ROWS):
            text = frame[place] if place < len(frame) else ""
            before, since = standing.get(place, ("", at))
            if text != before:
                if before:
                    yield (place, before), since, at
                standing[place] = text, at


def _row(row: tuple[int, str], start: float, end: float, whole: float) -> str:
    place, text = row
    shown = Text.from_ansi(text)
    spans = "".join(_span(shown.plain[span.start : span.end], span.style) for span in _whole(shown))
    times, values = f"{start / whole:.4f};{min(end / whole, 1):.4f}", "visible;hidden"
    if start:
        times, values = f"0;{times}", f"hidden;{values}"
    moving = (
        f'<animate attributeName="visibility" values="{values}" keyTimes="{times}" '
        f'dur="{whole:.2f}s" calcMode="discrete" repeatCount="indefinite"/>'
    )
    seen = "visible" if end >= whole else "hidden"  # where nothing moves, the end is shown
    y = MARGIN + LINE * (place + 0.75)
    return f'<text x="{MARGIN}" y="{y:.0f}" visibility="{seen}" xml:space="preserve">{spans}{moving}</text>'


def _whole(text: Text) -> Iterator[Span]:
    """The spans of a text, and those between them."""
    end = 0
    for span in sorted(text.spans):
        if span.start > end:
            yield Span(end, span.start, Style())
        if span.end > max(span.start, end):
            yield Span(max(span.start, end), span.end, span.style)
        end = max(end, span.end)
    if end < len(text.plain):
        yield Span(end, len(text.plain), Style())


def _span(text: str, style: Style | str) -> str:
    known = style if isinstance(style, Style) else Style.parse(style)
    facts = [f' fill="{known.color.get_truecolor().hex}"'] if known.color is not None else []
    facts += [' font-weight="bold"'] if known.bold else []
    facts += [' opacity="0.6"'] if known.dim else []
    return f"<tspan{''.join(facts)}>{escape(text)}</tspan>" if facts else escape(text)


if __name__ == "__main__":
    PICTURE.write_text(draw(record()), encoding="utf-8")
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} KB")
