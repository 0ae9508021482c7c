"""The story of a run: its progress, and the events of each row."""
