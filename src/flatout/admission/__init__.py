"""Admission to one target: each attempt waits in the target's queue until the pacer, the health and the money let it go."""

from .queue import AT_A_TIME, BYPASS, BYPASS_AGE, RETRIES, Admission

__all__ = ["AT_A_TIME", "BYPASS", "BYPASS_AGE", "RETRIES", "Admission"]
