"""What child processes get of the environment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from flatout.local import model, server
from flatout.local.environment import COMPUTING, FETCHING, environment

KEYS = ("OPENAI_API_KEY", "LLAMA_API_KEY", "FLATOUT_API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MINE")


class Started(Exception):
    pass


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the next child process would be started with."""
    given: dict[str, Any] = {}

    def start(*_: Any, **options: Any) -> None:
        given.update(options)
        raise Started

    for name in KEYS:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(subprocess, "Popen", start)
    return given


def test_the_models_server_gets_no_keys(started: dict[str, Any]) -> None:
    """Every key would lie in the memory of a native library; and LLAMA_API_KEY would lock the callers out."""
    with pytest.raises(Started):
        server._Worker({})
    assert not set(KEYS) & set(started["env"])
    assert started["env"]["CUDA_VISIBLE_DEVICES"] == "0"
    assert "PATH" in started["env"]


def test_pip_gets_its_own_setup_and_no_keys(started: dict[str, Any], tmp_path: Path) -> None:
    """The model could not be fetched by way of a mirror or a proxy, or pip would get every key of the user."""
    with pytest.raises(Started):
        model._run(["pip"], tmp_path, lambda _: None)
    assert not set(KEYS) & set(started["env"])
    assert started["env"]["PIP_INDEX_URL"] == "http://mirror"
    assert started["env"]["https_proxy"] == "http://proxy"
    assert started["env"]["TMPDIR"] == str(tmp_path)


def test_a_childs_own_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child would use this process' folder for temporary files, and not the one that is watched."""
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert environment(FETCHING, TMPDIR="/here")["TMPDIR"] == "/here"
    assert environment(COMPUTING)["TMPDIR"] == "/elsewhere"
