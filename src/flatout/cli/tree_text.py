"""The look of a trace: one line a node, figures in columns; a drawn tree on a terminal, indented lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct

from flatout.text import figures

from .terminal import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from flatout.runs.story.node import Node
    from flatout.store import Counts, Ranked, Ranking

_HEADINGS = ("start", "took", "tokens", "cost")
_TIMES = 2  # leading columns that hold times; most nodes leave the others empty
_MOST_NAME, _MOST_ID = 40, 24
_GUIDE = 4  # cells that a drawn tree takes for a level
_FELT = 0.001  # seconds; a shorter wait is left out if there are longer ones
_NOTE_LINES = 3
_NARROWEST_NOTE = 32
_STYLES = {
    "answered": "green",
    "pass": "green",
    "verified": "green",
    "retried": "yellow",
    "left": "yellow",
    "cancelled": "yellow",
    "lost": "yellow",
    "unsent": "yellow",
    "in flight": "cyan",
    "failed": "red",
    "fail": "red",
    "stop": "red",
    "refused": "red",
    "denied": "red",
    "unusable": "red",
    "not verified": "red",
    "broken off": "red",
    "unknown": "red",
}


class TreeLine(Struct, frozen=True):
    """A node as it is shown: its depth in the tree, its figures as text, and its note."""

    depth: int
    kind: str
    name: str
    cells: tuple[str, ...]
    outcome: str
    note: str

    @property
    def label(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind

    @property
    def columns(self) -> int:
        """The number of used columns before the note. A line without figures has room for words."""
        if any(self.cells[_TIMES:]):
            return len(self.cells)
        return _TIMES if any(self.cells) else 0


class Layout(Struct, frozen=True):
    """The widths of the columns. ``label`` is the width of the deepest label with its indentation."""

    label: int
    cells: tuple[int, ...]

    def figures(self, line: TreeLine) -> str:
        """A line's figures, each in its column."""
        shown = zip(line.cells[: line.columns], self.cells, strict=False)
        return "".join(f"  {cell:>{width}}" for cell, width in shown if width)


def lines(root: Node) -> Iterator[str]:
    """A tree as indented lines of any length."""
    shown = list(_flat(root))
    layout = _layout(shown, indent=2)
    yield _heading(layout)
    for line in shown:
        label = " " * (2 * line.depth) + line.label
        words = " · ".join(part for part in (line.outcome, line.note) if part)
        yield f"{_padded(label, layout.label)}{layout.figures(line)}  {words}".rstrip()
    yield from _advice(root)


def draw(root: Node, headline: str) -> None:
    """Draw a tree on the terminal."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    console = Console(file=sys.stdout, highlight=False)
    shown = list(_flat(root))
    layout = _layout(shown, indent=_GUIDE)
    console.print(Text(headline, style="bold"))
    console.print(Text(_heading(layout), style="dim"), no_wrap=True, overflow="ellipsis")
    branches: list[Tree] = []
    for line in shown:
        text = _styled(line, layout, console)
        del branches[line.depth :]
        branches.append(branches[-1].add(text) if branches else Tree(text, guide_style="dim"))
    console.print(branches[0])
    for advice in _advice(root):
        console.print(Text(advice))


def listing(
    rows: Sequence[Ranked], by: Ranking, counts: Counts, run: str, width: int | None, lost: Set[int]
) -> Iterator[str]:
    """Rows in a table of at most ``width`` cells, and the command that shows one of them.

    Args:
        rows: the rows.
        by: the criterion that selected them.
        counts: how many there are in all.
        run: the run's name.
        width: the terminal's; None for no bound.
        lost: the rows with an attempt of unknown cost, because its process died.
    """
    from rich.cells import set_cell_size

    whole = counts.failed + counts.unsent if by == "failed" else counts.finished
    what = "failed row" if by == "failed" else "finished row"
    if not rows:
        yield "no row has failed" if by == "failed" and counts.finished else "no row is finished yet"
        return
    which = "first" if by == "failed" else by
    yield f"{clean(run)}: the {which} {len(rows):,} of {figures.counted(whole, what)}"
    table = [("row", "id", "provider", "took", "attempts", "cost")]
    table += [
        (
            str(row.index + 1),
            clean(row.id or "", _MOST_ID),
            _seconds(row.provider_seconds),
            _seconds(row.seconds),
            figures.count(row.attempts),
            figures.cost(row.cost, row.index in lost),
        )
        for row in rows
    ]
    notes = ["", *(_error(row) for row in rows)]
    widths = [max(_cells(cells[place]) for cells in table) for place in range(len(table[0]))]
    for cells, note in zip(table, notes, strict=True):
        number, name, *rest = cells
        parts = [f"{number:>{widths[0]}}"] + ([_padded(name, widths[1])] if any(row.id for row in rows) else [])
        parts += [f"{cell:>{width}}" for cell, width in zip(rest, widths[2:], strict=True)]
        line = f"  {'  '.join(parts)}  {note}".rstrip()
        yield line if width is None or _cells(line) <= width else f"{set_cell_size(line, width - 1)}…"
    yield f"to see one: flatout trace {clean(run)} {rows[0].index + 1}"


def _flat(root: Node) -> Iterator[TreeLine]:
    """The nodes as lines, in the order of the tree. Waits share a line; a target is named only where it changes."""
    stack: list[tuple[Node | TreeLine, int]] = [(root, 0)]
    target: str | None = None
    while stack:
        node, depth = stack.pop()
        if isinstance(node, TreeLine):
            yield node
            continue
        yield _line(node, depth, to=node.target if node.target != target else None)
        target = node.target or target
        below: list[tuple[Node | TreeLine, int]] = [
            (child, depth + 1) for child in node.children if child.kind != "wait"
        ]
        if waits := [child for child in node.children if child.kind == "wait"]:
            at = next((place for place, (child, _) in enumerate(below) if _is_last_word(child)), len(below))
            below.insert(at, (_waited(waits, depth + 1), depth + 1))
        stack += reversed(below)


def _is_last_word(node: Node | TreeLine) -> bool:
    return node.kind in ("answer", "tool call", "next action", "result")


def _line(node: Node, depth: int, to: str | None) -> TreeLine:
    name = "" if node.name == node.kind else clean(node.name, _MOST_NAME)
    start = "" if node.start is None or depth == 0 else _start(node.start)
    took = "" if node.seconds is None else figures.elapsed(node.seconds)
    cost = "" if node.cost is UNSET else figures.cost(node.cost, node.may_cost is not UNSET)
    notes = [_words(node.detail or ""), f"to {to}" if to else ""]
    if node.may_cost is not UNSET and not node.children:
        amount = "an unknown amount" if node.may_cost is None else f"up to {figures.dollars(node.may_cost)}"
        notes.append(f"it may have cost {amount}")
    note = clean(" · ".join(part for part in notes if part))
    return TreeLine(depth, clean(node.kind), name, (start, took, _tokens(node), cost), clean(node.outcome or ""), note)


def _waited(waits: Sequence[Node], depth: int) -> TreeLine:
    from flatout.events import WAITS

    felt = [wait for wait in waits if wait.seconds is None or wait.seconds >= _FELT] or waits[:1]
    words = (f"{WAITS.get(wait.name, clean(wait.name, _MOST_NAME))} {_seconds(wait.seconds)}" for wait in felt)
    return TreeLine(depth, "waited for", "", ("",) * len(_HEADINGS), "", " · ".join(words))


def _tokens(node: Node) -> str:
    if node.input_tokens is UNSET and node.output_tokens is UNSET:
        return ""
    counts = (node.input_tokens, node.output_tokens)
    if not any(isinstance(count, int) for count in counts):
        return "unknown"
    return " → ".join(figures.short(count) if isinstance(count, int) else "?" for count in counts)


def _start(seconds: float) -> str:
    return f"{'+' if seconds > -0.0005 else '-'}{figures.elapsed(abs(seconds))}"


def _seconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else figures.elapsed(seconds)


def _error(row: Ranked) -> str:
    from flatout.text.redact import redact

    return clean(redact(_words(": ".join(part for part in (row.error, row.error_message) if part))), 120)


def _words(error: str) -> str:
    """An error without its class name, if the text says the same: that the call was not sent."""
    name, _, words = error.partition(": ")
    return words if words.startswith("not sent") and name.isidentifier() else error


def _advice(root: Node) -> Iterator[str]:
    from flatout.policies.failures.decision import advice_on

    if root.outcome in ("failed", "unsent") and (advice := advice_on((root.detail or "").partition(":")[0])):
        yield f"→ {advice}"


def _layout(shown: Sequence[TreeLine], indent: int) -> Layout:
    used = [[line.cells[place] for line in shown] for place in range(len(_HEADINGS))]
    widths = (
        max((len(heading), *map(len, cells))) if any(cells) else 0
        for heading, cells in zip(_HEADINGS, used, strict=True)
    )
    return Layout(max(_cells(line.label) + indent * line.depth for line in shown), tuple(widths))


def _heading(layout: Layout) -> str:
    headings = zip(_HEADINGS, layout.cells, strict=True)
    return " " * layout.label + "".join(f"  {heading:>{width}}" for heading, width in headings if width)


def _styled(line: TreeLine, layout: Layout, console: Console) -> Text:
    """A line as a tree's label. A long note continues below itself, or on the next line if little room is left."""
    from rich.text import Text

    style = _STYLES.get(line.outcome, "")
    text = Text(line.kind, style="bold" if line.depth == 0 else "cyan" if not any(line.cells) else "")
    if line.name:
        text.append(f" {line.name}", style="bold")
    indent = layout.label - _GUIDE * line.depth + 2
    text.append(" " * (indent - 2 - _cells(line.label)) + layout.figures(line) + "  ")
    room = console.width - _GUIDE * line.depth
    outcome = Text(line.outcome, style=style)
    note = Text(line.note, style="red" if style == "red" else "")
    if line.note and text.cell_len + _NARROWEST_NOTE > room:
        return text + outcome + Text("\n" + " " * indent) + _hanging(note, indent, room - indent, console)
    words = outcome + Text(" · ", style=note.style) + note if line.outcome and line.note else outcome + note
    return text + _hanging(words, text.cell_len, room - text.cell_len, console)


def _hanging(note: Text, indent: int, width: int, console: Console) -> Text:
    """A note on several lines; the cursor stands at the indentation of the first already."""
    from rich.text import Text

    parts = list(note.wrap(console, max(width, 1)))
    for part in parts:
        part.rstrip()
    if len(parts) > _NOTE_LINES:
        del parts[_NOTE_LINES:]
        parts[-1].truncate(max(width, 1) - 1)
        parts[-1].append("…")
    return Text("\n" + " " * indent).join(parts)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))
