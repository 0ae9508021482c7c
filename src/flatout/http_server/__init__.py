"""A small HTTP/1.1 server on asyncio, for what flatout itself serves: the gateway, the simulator, and live pages.

`requests` finds the requests in the bytes of a connection, `server` answers them.
"""
