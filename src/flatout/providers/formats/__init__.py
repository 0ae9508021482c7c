"""The wire formats, one codec each."""
