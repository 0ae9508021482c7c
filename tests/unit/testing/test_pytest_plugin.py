"""What flatout costs every pytest run of everyone who has it installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, pytest
sys.argv = ["pytest"]
code = pytest.main(["-q", "-p", "no:cacheprovider", "test_it.py"])
print("LOADED", sorted(name for name in sys.modules if name.partition(".")[0] == "flatout"))
heavy = ("aiohttp", "httptools", "msgspec", "pydantic", "jinja2", "rich", "sqlite3")
print("HEAVY", [name for name in heavy if name in sys.modules])
sys.exit(code)
"""


def run(folder: Path, test: str) -> str:
    (folder / "test_it.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugin_loads_nothing_until_its_fixture_is_asked_for(tmp_path: Path) -> None:
    """Every pytest run in an environment with flatout would be slower, and its coverage of flatout be lost."""
    said = run(tmp_path, "def test_nothing(): pass")
    few = ("_lazy", "_version", "errors", "testing", "testing.fixtures")
    assert f"LOADED {['flatout', *(f'flatout.{name}' for name in few)]}" in said
    assert "HEAVY []" in said


def test_the_fixture_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    """Nobody's tests could use the simulated provider."""
    said = run(tmp_path, "def test_it(flatout_provider): assert flatout_provider(rpm=600)[0]")
    assert "flatout.testing._provider" in said
