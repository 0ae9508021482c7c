"""Who changed what while a run went."""

from __future__ import annotations

from flatout.look.changes import LONGEST, changes, spells
from flatout.look.view import clock
from flatout.store.course import Happening

NOW = 1_700_000_000.0


def test_what_is_open_when_a_process_goes_ends_with_it() -> None:
    """A server that was down once would be shaded through the whole run that continued the next day."""
    happened = [
        Happening(at=1.0, kind="down", target="m", what="HTTP 500"),
        Happening(at=2.0, kind="full", target="m@flex", what="no room"),
        Happening(at=3.0, kind="back", target="m@flex", what="it answers again"),
        Happening(at=4.0, kind="end", what="interrupted"),
        Happening(at=90.0, kind="begin", what=""),
        Happening(at=91.0, until=92.0, kind="pause", target="m", what="429"),
        Happening(at=93.0, kind="change", what="paused", does="pause", by="ada"),
        Happening(at=94.0, kind="stop", target="n", what="no money"),
    ]
    found = {(each.kind, each.at, each.until) for each in spells(happened, 100.0)}
    known = {("down", 1.0, 4.0), ("full", 2.0, 3.0), ("pause", 91.0, 92.0)}
    assert found == {*known, ("stop", 94.0, 100.0), ("change", 93.0, 100.0)}


def test_the_latest_changes_come_first_with_who_made_them() -> None:
    """Nobody could tell why a run goes at another pace than its command says, nor whom to ask."""
    happened = [
        Happening(at=NOW - 60, kind="change", what="rpm 60", by="ada"),
        Happening(at=NOW - 50, kind="pause", target="m", what="slow down"),
        Happening(at=NOW - 40, kind="change", target="m", what="rpm 6,000"),
        Happening(at=NOW, kind="change", what="x" * 10_000, by="bob"),
    ]
    latest, second, before = changes([Happening(at=1.0, kind="change", what="rpm 1"), *happened], NOW, 2)
    assert before == "2 earlier"
    assert latest.startswith(f"{clock(NOW, NOW)} bob: xxx")
    assert len(latest) == LONGEST
    assert second == f"{clock(NOW - 40, NOW)} the program: rpm 6,000 for m"
    assert changes([], NOW, 3) == []
