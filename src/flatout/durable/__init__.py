"""Calls and functions whose results a run file keeps."""
