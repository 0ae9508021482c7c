"""Which licences may come in."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[1] / "licences.py"))


@pytest.mark.parametrize(
    "licence",
    [
        *("MIT", "MIT License", "BSD-3-Clause", "BSD License", "3-Clause BSD License", "BSD 2-Clause License"),
        *("Apache-2.0", "Apache 2.0", "Apache Software License", "Apache License, Version 2.0", "PSF-2.0", "MPL-2.0"),
        *("ISC License (ISCL)", "Apache-2.0 AND MIT", "Apache-2.0 OR BSD-3-Clause", "(MIT OR Apache-2.0)"),
        "GPL-3.0-only OR MIT",
    ],
)
def test_licences_that_go_with_ours_are_accepted(licence: str) -> None:
    """The check would fail for a package that may be used."""
    assert CHECK["accepted"](licence)


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-only", "MIT AND GPL-2.0-only", "AGPL-3.0", "SSPL-1.0", "unknown", "", "Proprietary", "Apache-2.0 WITH x"],
)
def test_other_licences_are_refused(licence: str) -> None:
    """A package that must not be shipped with ours would come in unnoticed."""
    assert not CHECK["accepted"](licence)


def test_what_is_installed_may_be_used() -> None:
    """flatout would depend on what its users may not be allowed to use."""
    assert list(CHECK["refused"]()) == []
