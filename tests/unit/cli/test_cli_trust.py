from __future__ import annotations

from pathlib import Path

import pytest

from flatout.cli import main
from flatout.config.trust import is_trusted

TEXT = """
[endpoints.openai]
base_url = "http://127.0.0.1:8000/v1"
[endpoints.mine]
base_url = "http://10.0.0.1/v1"
key_env = "MINE_API_KEY"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    below = tmp_path / "project" / "below"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    path = tmp_path / "project" / "flatout.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("by_name", [True, False])
def test_the_file_that_holds_here_is_trusted(file: Path, by_name: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A user would not know what exactly they said yes to, or for which file."""
    assert main(["trust", *(["../flatout.toml"] if by_name else [])]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"trusts {file}" in said.err
    assert "it sends the calls for openai to http://127.0.0.1:8000\n" in said.err
    assert "it sends the variable MINE_API_KEY to http://10.0.0.1\n" in said.err
    assert "flatout trust --revoke" in said.err
    assert is_trusted(file.read_bytes())


def test_trust_is_taken_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A word once given could not be taken back."""
    main(["trust"])
    assert main(["trust", "--revoke"]) == 0
    assert "no longer trusted" in capsys.readouterr().err
    assert not is_trusted(file.read_bytes())
    assert main(["trust", "--revoke"]) == 0
    assert "was not trusted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "there is no flatout.toml here"), ("modle = 'x'", "modle"), ("[endpoints.x]", "neither a base_url")],
)
def test_a_file_that_makes_no_sense_is_not_trusted(
    file: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user would trust a file that holds nothing, or be shown a traceback."""
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert main(["trust"]) == 2
    assert said in capsys.readouterr().err
    assert main(["trust", "nowhere.toml"]) == 2
    assert "nowhere.toml: No such file" in capsys.readouterr().err
