"""The exit codes of the command."""

from __future__ import annotations

FAILED = 1
"""Finished, but some rows have no answer; or a defect in flatout."""

UNUSABLE = 2
"""Unusable options or input."""

UNDER_WAY = 3
"""Rows stand in batches at the provider, which the same command collects."""

INTERRUPTED = 130
"""Stopped by Ctrl-C, as a shell reports it: 128 + SIGINT."""

PIPE_CLOSED = 141
"""The reader of the output has gone, as a shell reports it: 128 + SIGPIPE."""
