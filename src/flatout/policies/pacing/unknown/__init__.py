"""Finds by trying the limit of a target that advertises none."""

from .search import RateSearch
from .together import Together

__all__ = ["RateSearch", "Together"]
