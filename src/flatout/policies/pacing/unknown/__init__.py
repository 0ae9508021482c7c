"""The limit of a target that tells none: found by trying."""

from .search import RateSearch

__all__ = ["RateSearch"]
