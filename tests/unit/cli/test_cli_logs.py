"""What the library logs, as the command shows it."""

from __future__ import annotations

import logging

import pytest

from flatout.cli import logs

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
