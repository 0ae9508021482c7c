"""Answers that fit a schema: how to ask for them, read them, and rescue them."""
