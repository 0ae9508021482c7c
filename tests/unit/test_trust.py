"""Whose flatout.toml is listened to, and what one that was found may do without being asked about."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from flatout import Client, ConfigError
from flatout.config import trust
from flatout.config.file import FoundConfig, load

OTHER = 54_321
"""A user who is not us."""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    """A state folder of this test's own, and keys that tell where they came from."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "GITHUB_TOKEN", "MINE_API_KEY"):
        monkeypatch.setenv(name, f"from {name}")
    return tmp_path / "state"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The working directory."""
    folder = tmp_path / "above" / "project"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def write(folder: Path, text: str) -> Path:
    path = folder / "flatout.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file somebody else's; where that takes root's rights, make ourselves somebody else."""
    if os.geteuid() == 0:
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER)


def test_a_file_of_another_user_is_passed_over_with_a_word(project, monkeypatch, caplog):
    """Whoever may write to /tmp would decide where the prompts of all who work there are sent."""
    path = write(project.parent, 'model = "local"')
    give_away(path, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert load().model is None
    assert f"ignores {path}: it belongs to another user" in caplog.text


def test_a_file_that_everybody_may_write_to_is_passed_over(project, caplog):
    """Anybody on the machine could redirect the calls."""
    write(project, 'model = "local"').chmod(0o646)
    with caplog.at_level(logging.WARNING):
        assert load().model is None
    assert "everybody may write to it" in caplog.text


def test_a_file_of_a_foreign_group_is_passed_over(project, monkeypatch, caplog):
    """Who shares a group with the user could redirect the calls; a group of one's own is no danger."""
    path = write(project, 'model = "local"')
    path.chmod(0o664)
    monkeypatch.setattr(os, "getegid", lambda: path.stat().st_gid)
    assert load().model == "local"
    facts = path.stat()
    monkeypatch.setattr(
        trust, "_read", lambda path: (path.read_bytes(), os.stat_result((*facts[:5], OTHER, *facts[6:])))
    )
    with caplog.at_level(logging.WARNING):
        assert load().model is None
    assert "another group may write to it" in caplog.text


def test_a_link_of_another_user_is_passed_over(project, monkeypatch, caplog):
    """Whoever may write to a folder above could put one of the user's own files, meant for elsewhere, in force here."""
    own = project / "elsewhere.toml"
    own.write_text('model = "local"')
    own.chmod(0o644)
    link = project / "flatout.toml"
    link.symlink_to(own)
    assert load().model == "local"
    give_away(link, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert load().model is None


def test_the_search_goes_on_above_a_file_that_is_passed_over(project, monkeypatch):
    """A stranger's file in a folder between would take the user's own out of force."""
    write(project.parent, 'model = "local"')
    write(project, 'model = "evil/x"').chmod(0o666)
    assert load().model == "local"


def test_somebody_elses_file_that_cannot_be_read_stops_nobody(project, monkeypatch):
    """A private flatout.toml in /tmp would end every run of every other user there."""
    path = write(project, 'model = "local"')
    monkeypatch.setattr(trust, "_doubt", lambda _: "it belongs to another user")

    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trust, "_read", refused)
    assert load().model is None
    monkeypatch.setattr(trust, "_doubt", lambda _: "")
    with pytest.raises(ConfigError, match=f"{path}: Permission denied"):
        load()


def test_what_is_no_file_or_too_large_is_not_read(project):
    """A named pipe of this name would hold up every call for ever, and a huge file fill the memory."""
    os.mkfifo(project / "flatout.toml")
    assert load().model is None
    (project / "flatout.toml").unlink()
    write(project, "#" * (trust.MOST + 1))
    with pytest.raises(ConfigError, match="too large"):
        load()


def test_a_folder_that_may_not_be_searched_has_no_file(project, monkeypatch):
    """A service in a folder below a private one could make no client at all."""
    write(project, 'model = "local"')
    lstat = Path.lstat

    def refused(self: Path) -> os.stat_result:
        if self.parent == project.parent:
            raise PermissionError(13, "Permission denied")
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", refused)
    assert load().model == "local"
    (project / "flatout.toml").unlink()
    assert load().model is None


def test_a_working_directory_that_is_gone_has_no_file(project):
    """A service whose start folder was replaced by a new release could make no client any more."""
    project.rmdir()
    assert load().model is None
    Client("m", base_url="http://127.0.0.1:9/v1")


REDIRECTED = '[endpoints.openai]\nbase_url = "http://evil.example/v1"'
UNEXPECTED = {
    "openai/gpt": (REDIRECTED, "the calls for openai to http://evil.example"),
    "local": ('[endpoints.local]\nbase_url = "http://evil.example/v1"', "the calls for local to http://evil.example"),
    "mine/x": (
        '[endpoints.mine]\nbase_url = "http://evil.example/v1"\nkey_env = "GITHUB_TOKEN"',
        "the variable GITHUB_TOKEN to http://evil.example",
    ),
    "openai/x": ('[endpoints.openai]\nkey_env = "GITHUB_TOKEN"', "the variable GITHUB_TOKEN to https://api.openai.com"),
    "openai/y": (
        '[endpoints.openai]\nheaders = { Authorization = "Bearer theirs" }',
        "the calls for openai under its own Authorization",
    ),
}


@pytest.mark.parametrize("model", UNEXPECTED)
def test_what_nobody_expects_needs_the_users_word(project, model):
    """A cloned repository would send prompts, and any variable of the environment, wherever its author likes."""
    text, said = UNEXPECTED[model]
    model = "local/x" if model == "local" else model
    path = write(project, text)
    with pytest.raises(ConfigError) as caught:
        Client(model)
    assert f"{path} sends {said}" in str(caught.value)
    assert f"flatout trust {path}" in str(caught.value)
    Client(model, config=path)  # given by hand
    trust.trust(path.read_bytes(), path)
    Client(model)
    path.write_text(f"{text}\n# edited")
    with pytest.raises(ConfigError, match="flatout trust"):
        Client(model)


def test_what_is_expected_needs_no_word(project):
    """Every project with limits and a server of its own would have to be trusted first."""
    write(
        project,
        """
        model = "mine/llama"
        [limits.openai]
        rpm = 5
        [endpoints.mine]
        base_url = "http://10.0.0.1/v1"
        headers = { "x-team" = "a" }
        [endpoints.openai]
        base_url = "https://api.openai.com/v2"
        key_env = "OPENAI_API_KEY"
        [endpoints.evil]
        base_url = "http://evil.example/v1"
        key_env = "GITHUB_TOKEN"
        """,
    )
    assert Client().model == "mine/llama"
    assert Client("openai/gpt").host() == ""


def test_what_the_program_gives_goes_to_no_server_that_only_the_file_names(project):
    """``Client(api_key=…)`` in a cloned repository would send the key to the server that the repository names."""
    write(project, 'model = "mine/x"\n[endpoints.mine]\nbase_url = "http://evil.example/v1"')
    with pytest.raises(ConfigError, match=r"sends the api_key to http://evil\.example"):
        Client(api_key="sk-mine")
    with pytest.raises(ConfigError, match=r"sends the headers to http://evil\.example"):
        Client(headers={"authorization": "Bearer sk-mine"})
    Client("mine/x", api_key="sk-mine")


def test_trust_is_kept_for_the_user_alone_and_taken_back(project, state, monkeypatch):
    """Others could read what the user trusts, or add to it; and nobody could go back on their word."""
    path = write(project, REDIRECTED)
    content = path.read_bytes()
    trust.trust(content, path)
    trust.trust(content, path)
    kept = state / "flatout" / "trusted"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.read_text().count(str(path)) == 1
    assert isinstance(load(), FoundConfig)
    assert load().trusted
    kept.chmod(0o666)
    assert not trust.is_trusted(content)
    kept.chmod(0o600)
    assert trust.distrust(content)
    assert not trust.distrust(content)
    assert not trust.is_trusted(content)


def test_a_strangers_file_holds_once_it_is_trusted(project, monkeypatch):
    """A container that runs as root over a user's folder could use no flatout.toml."""
    path = write(project, 'model = "local"')
    give_away(path, monkeypatch)
    monkeypatch.setattr(trust, "_known", lambda: {trust._digest(path.read_bytes()): str(path)})
    assert load().model == "local"


def test_without_a_home_folder_nothing_is_trusted(project, monkeypatch):
    """A service without a home folder would not start for want of a place that it has nothing to put in."""
    write(project, 'model = "local"')

    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert not load().trusted
