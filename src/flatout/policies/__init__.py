"""Decisions: when the next call may go, and what a failure means. No clock, no randomness, no I/O."""
