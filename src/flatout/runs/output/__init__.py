"""The answers of a run, in files."""
