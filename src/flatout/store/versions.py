"""Which version of the run file has what, for readers of files that older programs wrote."""

READABLE = 2
"""The first version of the file that has all that readers need, except facts and trails."""

FACTS = 3
"""The first version of the file that has facts."""

TRAILS = 5
"""The first version of the file whose items may have a trail."""

LEDGER = 6
"""The first version of the file that may have batches."""

COURSE = 7
"""The first version of the file that has a course, and the provider's seconds of each item."""

ANSWERS = 9
"""The first version of the file whose ledger has a table of answers."""

DEEDS = 10
"""The first version of the file that has a column for what a change does to the whole run."""

FAILED = 11
"""The first version of the file that says of an attempt in doubt whether it has failed."""

INDEXED = 12
"""The first version of the file that finds the items without an answer without reading the others."""
