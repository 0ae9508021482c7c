"""What the library logs, as the command shows it."""

from __future__ import annotations

import logging

import pytest

from flatout.cli import logs
from flatout.events import TARGETS

LOG = logging.getLogger("flatout")


@pytest.mark.parametrize(
    ("verbosity", "told"),
    [(0, ["warning"]), (1, ["warning", "info"]), (2, ["warning", "info", "debug"]), (9, ["warning", "info", "debug"])],
)
def test_verbosity_chooses_what_is_shown(verbosity: int, told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in a parameter would never be heard of; or every retry be shown to all."""
    with logs.shown(verbosity):
        LOG.warning("warning")
        LOG.info("info")
        LOG.debug("debug")
    assert capsys.readouterr().err == "".join(f"flatout: {line}\n" for line in told)
    assert LOG.handlers == []


def test_a_record_is_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A provider's message could colour the terminal, or pretend to be a line of ours."""
    with logs.shown():
        LOG.warning("it says: %s", "\x1b[31mno\nflatout: all is well")
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert len(said.splitlines()) == 1
    assert said.startswith("flatout: it says: ")


def test_other_libraries_are_not_heard(capsys: pytest.CaptureFixture[str]) -> None:
    """Their warnings would tear up the live line."""
    with logs.shown(2):
        logging.getLogger("asyncio").warning("a slow callback")
    assert "slow" not in capsys.readouterr().err


@pytest.mark.parametrize(("verbosity", "targets", "shown"), [(0, False, False), (1, False, True), (0, True, True)])
def test_what_the_live_line_tells_has_no_line_of_its_own(
    verbosity: int, targets: bool, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run would say twice that its server is down; or a gateway, which has no live line, never."""
    log = logging.getLogger(TARGETS)
    with logs.shown(verbosity, targets=targets):
        log.warning("m is down")
    assert ("m is down" in capsys.readouterr().err) is shown
    assert log.isEnabledFor(logging.WARNING)
