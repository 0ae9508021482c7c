"""Lets run files be written on the virtual clock, which stands still while their thread is at work."""

from __future__ import annotations

from typing import Any

import pytest

from flatout.store import writer


def store_on_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the virtual clock wait for the run file's thread."""
    hand_over, resolve = writer.Writer._hand_over, writer._resolve

    def handed_over(self: writer.Writer, group: Any) -> None:
        if group is not None:
            group.loop._threads += 1
        hand_over(self, group)

    def resolved(group: Any, *rest: Any) -> None:
        group.loop._threads -= 1
        resolve(group, *rest)

    monkeypatch.setattr(writer.Writer, "_hand_over", handed_over)
    monkeypatch.setattr(writer, "_resolve", resolved)
