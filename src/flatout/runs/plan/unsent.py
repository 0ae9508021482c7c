"""A client for plans that ask nothing: it needs no key, because it sends nothing."""

from __future__ import annotations

from functools import partial

from flatout.client import Client
from flatout.providers.targets import Targets


class Unsent(Client):
    """A client that knows its targets, their prices and their limits, but not their keys."""

    _targets = partial(Targets, keyless=True)
