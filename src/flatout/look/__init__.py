"""Shows runs to people: while they go, after a crash, and a year later. Everything here reads the run file."""
