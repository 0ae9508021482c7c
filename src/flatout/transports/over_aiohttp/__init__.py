"""The transport that flatout had before its own: over aiohttp's client.

It stays for two releases, for those who depend on something that only aiohttp does, and as the partner that
flatout's own transport is tested against: ``Client(..., transport=AiohttpTransport())``. It needs the extra "aiohttp".
"""

from .transport import AiohttpTransport

__all__ = ["AiohttpTransport"]
