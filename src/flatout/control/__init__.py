"""A Unix socket by which other programs of the same user steer a run, or a library's client, while it goes.

`place` says where the socket is, `server` answers at it, `asking` asks it. One line of JSON is a request, one line of
JSON its answer. What is done with a request is decided by whoever opens the server.
"""
