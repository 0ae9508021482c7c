"""The rows of a run: files, pipes, and what is checked before the first call."""
