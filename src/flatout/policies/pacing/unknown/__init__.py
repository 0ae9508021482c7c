"""The limit of a target that tells none: found by trying."""

from .search import RateSearch
from .together import Together

__all__ = ["RateSearch", "Together"]
