"""The types of what users import, as pyright sees an installed flatout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import pytest

import flatout

ROOMS = ("agents", "daft", "errors", "events", "progress", "ray", "sdk", "tables", "telemetry", "testing")


@pytest.mark.soak
def test_the_types_of_all_public_names_are_known(tmp_path: Path) -> None:
    """Who checks types strictly would be told that a part of what flatout returns is unknown."""
    shutil.copytree(Path(flatout.__file__).parent, tmp_path / "flatout")  # pyright looks for a package, not an editable
    pyright = Path(sys.executable).with_name("pyright")
    found = subprocess.run(
        [pyright, "--verifytypes", "flatout", "--ignoreexternal", "--outputjson"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{sysconfig.get_path('purelib')}"},
        capture_output=True,
        timeout=120,
        check=False,  # the private rooms are not complete
    )
    symbols = {each["name"]: each for each in json.loads(found.stdout)["typeCompleteness"]["symbols"]}
    public = [f"flatout.{name}" for name in flatout.__all__]
    for room in ROOMS:
        module = import_module(f"flatout.{room}")
        public += [f"{module.__name__}.{name}" for name in getattr(module, "__all__", ())]
    assert [name for name in public if symbols[name]["isTypeAmbiguous"] or not symbols[name]["isTypeKnown"]] == []
