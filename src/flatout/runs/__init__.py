"""A run of the command: a file of prompts in, a file of answers out, and between them the run file."""
