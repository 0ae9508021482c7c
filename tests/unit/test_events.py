"""Those who hear what happens, and what becomes of their mistakes."""

from __future__ import annotations

import logging

from flatout.events import Event, Events


def test_a_broken_subscriber_is_logged_once_and_harms_nobody(caplog):
    """A mistake in somebody's progress bar would cost paid answers, or fill the log."""
    events, heard = Events(), []

    def broken(event: Event) -> None:
        raise ValueError("broken")

    events.subscribe(broken)
    events.subscribe(heard.append)
    with caplog.at_level(logging.WARNING):
        for at in range(3):
            events.emit(Event(at=at))
    assert [event.at for event in heard] == [0, 1, 2]
    assert len(caplog.records) == 1
    assert "broken" in caplog.text


def test_a_subscriber_may_leave_while_it_is_told():
    """The one behind it would miss the event."""
    events, heard = Events(), []
    leave = events.subscribe(lambda event: leave())
    events.subscribe(heard.append)
    events.emit(Event(at=0.0))
    leave()
    events.emit(Event(at=1.0))
    assert len(heard) == 2
    assert events


def test_nobody_listens_at_first():
    """Calls would pay for events that nobody hears."""
    events = Events()
    leave = events.subscribe(print)
    leave()
    assert not events
