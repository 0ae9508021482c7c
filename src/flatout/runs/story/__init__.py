"""What a run has done: its progress, and what happened to each row."""
