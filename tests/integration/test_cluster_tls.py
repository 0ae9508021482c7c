"""A server of Redis over TLS, with an authority of its own, a user's name and a password."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flatout import Budget, Call, Client, ConfigError, Limits
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.ports import free_port
from tests.support.raw_server import Certificate
from tests.support.redis_server import needs_redis, redis_program, redis_server

SECRET, WRONG = "sesame", "hunter2"


def speaks_tls() -> bool:
    """Whether the server's program was built with TLS: it names the first option that it does not know."""
    program = redis_program()
    if program is None:
        return False
    said = subprocess.run([program, "--tls-port", "0", "--port", "none"], capture_output=True, text=True, check=False)
    return "tls-port" not in said.stdout + said.stderr


pytestmark = [needs_redis, pytest.mark.skipif(not speaks_tls(), reason="the redis-server was built without TLS")]


@dataclass
class Served:
    port: int
    authority: Path
    stranger: Path

    def address(self, *, scheme: str = "rediss", user: str = "ada", trusted: Path | None = None) -> str:
        options = f"?ssl_ca_certs={trusted}" if trusted is not None else ""
        return f"{scheme}://{user}@127.0.0.1:{self.port}/0{options}/team"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folders = [tmp_path_factory.mktemp(name) for name in ("redis", "stranger")]
    own, other = map(Certificate, folders)
    port = free_port()
    keys = ["--tls-cert-file", str(own.file), "--tls-key-file", str(own.key), "--tls-auth-clients", "no"]
    users = ["--user", "ada", "on", f">{SECRET}", "~*", "&*", "+@all", "--user", "default", "off"]
    with redis_server(folders[0], "--tls-port", str(port), *keys, *users):
        yield Served(port, own.file, other.file)


def test_limits_a_budget_and_a_cache_are_shared_over_tls(served, monkeypatch):
    """A team whose server is only reached over TLS could share nothing."""
    monkeypatch.setenv("FLATOUT_REDIS_PASSWORD", SECRET)
    address = served.address(trusted=served.authority)
    model = ProviderModel(ProviderSettings(latency=0.01))
    prices = {"prices": {"127.0.0.1:1/m": {"input": 1.0, "output": 1.0}}}

    async def main() -> list[bool]:
        given: dict[str, Any] = {
            "limits": Limits(rpm=600, shared=address),
            "budget": Budget(5, "day", address),
            "cache": address,
        }
        cached = []
        for _ in range(2):
            given["transport"] = SimulatedTransport(model)
            async with Client("m", base_url="http://127.0.0.1:1/v1", config=prices, **given) as client:
                result = await client.result(Call("a question", max_tokens=2_000))
                assert result.ok, result.error
                cached.append(result.cached)
        return cached

    assert asyncio.run(main()) == [False, True]


@pytest.mark.parametrize("what", ["limits", "budget", "cache"])
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("authority", "its certificate is not trusted"),
        ("no authority", "its certificate is not trusted"),
        ("no tls", "if it wants TLS, its address begins with rediss://"),
        ("password", "it refuses the password that FLATOUT_REDIS_PASSWORD holds, or the user's name"),
        ("user", "it refuses the password that FLATOUT_REDIS_PASSWORD holds, or the user's name"),
        ("no password", "it wants a password: set FLATOUT_REDIS_PASSWORD"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_without_a_secret(served, monkeypatch, what, wrong, why):
    """A user would look for the fault in the wrong place, or read a password in a log."""
    password = {"password": WRONG, "no password": ""}.get(wrong, SECRET)
    monkeypatch.setenv("FLATOUT_REDIS_PASSWORD", password)
    address = {
        "authority": served.address(trusted=served.stranger),
        "no authority": served.address(),
        "no tls": served.address(scheme="redis"),
        "user": served.address(user="eve", trusted=served.authority),
    }.get(wrong, served.address(trusted=served.authority))
    given = {
        "limits": {"limits": Limits(rpm=600, shared=address)},
        "budget": {"budget": Budget(5, "day", address), "allow_unknown_price": True},
        "cache": {"cache": address},
    }[what]

    async def main() -> Exception | None:
        async with Client("m", base_url="http://127.0.0.1:1/v1", config={}, **given) as client:
            return (await client.result("a question")).error

    error = asyncio.run(main())
    assert isinstance(error, ConfigError)
    said = str(error)
    assert why in said
    assert said.startswith(f"the {'limits shared at' if what == 'limits' else what}")
    assert address in said
    assert "\n" not in said
    assert not any(secret in said for secret in (SECRET, WRONG))
