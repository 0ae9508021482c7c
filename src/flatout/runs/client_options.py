"""What a run's client is made with, and so what the clients of its workers are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from flatout.values import Limits

if TYPE_CHECKING:
    from flatout.client import Client


class ClientOptions(Struct, frozen=True):
    """What a client is made with.

    Attributes:
        client: the keyword arguments of `Client`, without ``limits``.
        limits: the limits that the user gave.
        sends: whether the client sends anything; otherwise it needs no key.
    """

    client: dict[str, Any]
    limits: Limits | None = None
    sends: bool = True

    def __repr__(self) -> str:
        return f"ClientOptions({', '.join(self.client)}, …)"  # headers and addresses may hold keys

    def make(self) -> Client:
        """A client.

        Raises:
            ConfigError: as for `Client`.
        """
        if not self.sends:
            from .plan.unsent import Unsent

            return Unsent(**self.client, limits=self.limits)
        from flatout.client import Client

        return Client(**self.client, limits=self.limits)
