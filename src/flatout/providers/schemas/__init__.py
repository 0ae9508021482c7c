"""Answers that fit a schema: asked for, read, and rescued."""
