"""Who changed what while a run went."""

from __future__ import annotations

from flatout.look.changes import LONGEST, changes
from flatout.look.view import clock
from flatout.store.course import Happening

NOW = 1_700_000_000.0


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
