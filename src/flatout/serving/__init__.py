"""A small HTTP/1.1 server on asyncio, for what flatout itself serves: the simulator, and the live page of a run.

`requests` finds the requests in the bytes of a connection, `server` answers them.
"""
