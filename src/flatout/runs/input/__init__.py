"""The rows of a run: reading files and pipes, and checking them before the first call."""
