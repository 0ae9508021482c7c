"""Calls and functions whose results are kept in a run file."""
