"""The terminal view of a run, ``flatout watch``: a first screen that says how it goes, its rows, and one of them."""
