"""``flatout watch --web``: the page of a report, live, for browsers on this machine.

`live` knows the run, `listing` its rows, `feed` tells all open pages what is new. `guard` says who may see the page,
`site` answers requests, `serve` is the server. Nothing here changes anything.
"""
