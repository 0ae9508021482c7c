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


@pytest.mark.parametrize(
    "address",
    [
        "redis://user:hunter2@host:6379/0/team",
        "redis://:hun@hunter2@host:6379/0/team",
        "redis://host:6379/0?password=hunter2/team",
        "rediss://host:6379/0?ssl_ca_certs=ca.pem&ssl_p%61ssword=hunter2/team",
        "unix:///run/redis.sock?db=0&password=hunter2/team",
    ],
)
def test_a_password_in_an_address_is_refused(address):
    """It would be in logs, in run files and in the list of processes."""
    with pytest.raises(ConfigError, match="FLATOUT_REDIS_PASSWORD") as caught:
        Limits(shared=address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "redis://user:hunter2@host:6379/0",
        "redis://user:hun/hunter2@host:6379/0/team",
        "redis://user:hun@hunter2@host:port/0/team",
        "redis://host:port/0?password=hunter2/team",
    ],
)
def test_no_password_is_shown_of_an_address_that_is_wrong_otherwise_too(address):
    """The message about the other mistake would put it into a log."""
    with pytest.raises(ConfigError) as caught:
        Limits(shared=address)
    assert "hunter2" not in str(caught.value)
