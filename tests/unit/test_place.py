"""Where workers on several machines share limits: the addresses that `Limits` takes."""

from __future__ import annotations

import pytest

from flatout import ConfigError, Limits
from flatout.values.place import place_of


@pytest.mark.parametrize(
    ("address", "server", "name"),
    [
        ("redis://host:6379/0/team", "redis://host:6379/0", "team"),
        ("redis://host/team", "redis://host", "team"),
        ("rediss://user@host:6380/3/our team", "rediss://user@host:6380/3", "our team"),
        ("unix:///run/redis.sock/team", "unix:///run/redis.sock", "team"),
        ("unix:///run/redis.sock?db=2/team", "unix:///run/redis.sock?db=2", "team"),
    ],
)
def test_an_address_names_a_server_and_those_who_share(address, server, name):
    """Workers would share with nobody, or with another team."""
    assert Limits(shared=address).shared == address
    assert (place_of(address).server, place_of(address).name) == (server, name)


@pytest.mark.parametrize(
    "address",
    [
        "redis://host:6379/0",  # no name
        "redis://host:6379/0/",
        "redis:///0/team",  # no host
        "redis://host:port/0/team",
        "redis://host:6379/zero/team",
        "http://host/0/team",
        "unix://team",
    ],
)
def test_a_wrong_address_is_refused_at_once_with_a_right_one(address):
    """The first call would fail, with a message of another library."""
    with pytest.raises(ConfigError, match="redis://host:6379/0/team, with a name at its end"):
        Limits(shared=address)


def test_a_password_in_an_address_is_refused_and_never_shown():
    """It would be in logs, in run files and in the list of processes."""
    with pytest.raises(ConfigError, match="FLATOUT_REDIS_PASSWORD") as caught:
        Limits(shared="redis://user:hunter2@host:6379/0/team")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        Limits(shared="redis://user:hunter2@host:6379/0")
    assert "hunter2" not in str(caught.value)
