"""Admission to one target: its queue, which lets attempts go as its pacer, its health and the budget allow."""

from .queue import BYPASS, BYPASS_AGE, RETRIES, Admission
from .yielding import AT_A_TIME

__all__ = ["AT_A_TIME", "BYPASS", "BYPASS_AGE", "RETRIES", "Admission"]
