"""The command line of ``flatout batch``."""

from __future__ import annotations

import pytest

from flatout.cli.batch import _missing


@pytest.mark.parametrize(
    ("command", "base_url", "added"),
    [
        ("flatout run a --base-url http://x/v1 -m m", None, " --base-url http://x/v1"),
        ("flatout run a --base-url 'http://x/v 1'", None, " --base-url 'http://x/v 1'"),
        ("flatout run a --base-url http://x/v1", "http://y/v1", ""),
        ("flatout run a -m openai/m", None, ""),
        (None, None, ""),
    ],
)
def test_the_missing_address_of_a_server_is_named(command: str | None, base_url: str | None, added: str) -> None:
    """Whoever cancels would only read that no provider is named like the server."""
    said = f"; add{added}, as the run's command has it" if added else ""
    assert _missing(command, base_url, None) == said
