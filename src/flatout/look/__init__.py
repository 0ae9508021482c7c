"""Shows runs to people, from their run files: while they go, after a crash, and a year later. And teams of workers."""
