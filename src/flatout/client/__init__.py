"""The Client: calls in, one result per call out."""

from .client import Client as Client
from .overview import engine_of as engine_of
