"""The story of a run: the events of each row."""
