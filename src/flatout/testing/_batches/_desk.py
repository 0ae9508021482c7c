"""Takes every request about batches to the format that knows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate

from msgspec.structs import replace

from flatout.testing._settings import ProviderSettings
from flatout.testing._slots import SimulatedResponse, Wire

from ._anthropic import MessageBatches
from ._files import Files
from ._fireworks import STORE, Fireworks
from ._gemini import GeminiBatches, GeminiFiles
from ._mistral import MistralJobs
from ._openai import OpenAIBatches
from ._openrouter import OpenRouterBatches
from ._request import Ask, Refused
from ._shelf import AnswerRow, CountTokens, Shelf
from ._told import LINES, Told, encode
from ._xai import XaiBatches

Handler = Callable[..., Told]
"""Answers a request, given the model's seconds, Unix seconds, the request and the names in its path."""

Route = tuple[str, str, Handler]
"""A method, a pattern of the path's end, and who answers."""

_ABOUT_BATCHES = re.compile(
    r"/(?:files|batches|batch/jobs|accounts/[^/]+/(?:datasets|batchInferenceJobs))(?:[/:]|\Z)"
    r"|/store/|:batchGenerateContent\Z"
)


def is_signed(path: str) -> bool:
    """Whether a request with this path needs no key, because its address is signed."""
    return path.startswith(STORE)


def about_batches(path: str) -> bool:
    """Whether a request with this path may be one about batches."""
    return _ABOUT_BATCHES.search(path) is not None


class Desk:
    """All endpoints of batches.

    Args:
        settings: the provider's.
        seed: makes all draws repeatable.
        answer: the live model, which answers the rows.
        count: counts a row's prompt tokens.
    """

    def __init__(self, settings: ProviderSettings, seed: int, answer: AnswerRow, count: CountTokens) -> None:
        self._settings = settings
        self.shelf = Shelf(settings, seed, answer, count)
        batches = _xai if settings.batch.dialect == "xai" else _openai
        self._routes = [
            (method, re.compile(f".*{pattern}"), handler)
            for make in (_gemini, _fireworks, _anthropic, _mistral, _openrouter, _files, batches)
            for method, pattern, handler in make(self.shelf)
        ]

    def answer(self, now: float, wall: float, ask: Ask) -> SimulatedResponse:
        """The answer to a request, with the faults of batches."""
        told = self._told(now, wall, ask)
        wire: Wire = "whole"
        faults, random = self._settings.batch.faults, self.shelf.random
        if told.act == "changed" and faults.lost and random.random() < faults.lost:
            wire = "reset"
        elif told.act == "results" and faults.cut and random.random() < faults.cut:
            wire = "truncated"
        elif told.act == "results" and faults.short and random.random() < faults.short:
            told = replace(told, body=_shorter(told))
        kind = "batches" if wire == "whole" else "lost" if wire == "reset" else "cut"
        headers = {"content-type": told.media_type, "date": formatdate(wall, usegmt=True)}
        return SimulatedResponse(kind=kind, status=told.status, headers=headers, body=told.body, wire=wire)

    def _told(self, now: float, wall: float, ask: Ask) -> Told:
        try:
            for method, pattern, handler in self._routes:
                if method == ask.method and (found := pattern.fullmatch(ask.path)) is not None:
                    return handler(now, wall, ask, *found.groups())
        except Refused as refused:
            return Told(refused.body, refused.status)
        message = f"Invalid URL ({ask.method} {ask.path})"
        return Told(encode({"error": {"message": message, "type": "invalid_request_error"}}), 404)


def _shorter(told: Told) -> bytes:
    """A file of results without some of its last lines. Other answers are as they were."""
    lines = told.body.splitlines(keepends=True)
    return b"".join(lines[: len(lines) // 2]) if told.media_type == LINES else told.body


# More special paths come first: the first that matches counts.


def _gemini(shelf: Shelf) -> list[Route]:
    files, batches = GeminiFiles(shelf), GeminiBatches(shelf)
    return [
        ("POST", "/upload/v1beta/files", files.upload),
        ("GET", "/download/v1beta/files/([^/]+):download", files.content),
        ("GET", "/v1beta/files", files.page),
        ("GET", "/v1beta/files/([^/]+)", files.get),
        ("DELETE", "/v1beta/files/([^/]+)", files.delete),
        ("POST", "/v1beta/models/([^/]+):batchGenerateContent", batches.create),
        ("GET", "/v1beta/batches", batches.page),
        ("GET", "/v1beta/batches/([^/]+)", batches.get),
        ("DELETE", "/v1beta/batches/([^/]+)", batches.delete),
        ("POST", "/v1beta/batches/([^/]+):cancel", batches.cancel),
    ]


def _fireworks(shelf: Shelf) -> list[Route]:
    fireworks, account = Fireworks(shelf), "/v1/accounts/([^/]+)"
    return [
        ("POST", f"{account}/datasets", fireworks.make),
        ("POST", f"{account}/datasets/([^/:]+):upload", fireworks.upload),
        ("GET", f"{account}/datasets/([^/:]+):getDownloadEndpoint", fireworks.addresses),
        ("DELETE", f"{account}/datasets/([^/:]+)", fireworks.delete),
        ("POST", f"{account}/batchInferenceJobs", fireworks.create),
        ("GET", f"{account}/batchInferenceJobs", fireworks.page),
        ("GET", f"{account}/batchInferenceJobs/([^/:]+)", fireworks.get),
        ("GET", f"{STORE}([^/]+)", fireworks.fetch),
    ]


def _anthropic(shelf: Shelf) -> list[Route]:
    batches = MessageBatches(shelf)
    return [
        ("POST", "/messages/batches", batches.create),
        ("GET", "/messages/batches", batches.page),
        ("GET", "/messages/batches/([^/]+)", batches.get),
        ("DELETE", "/messages/batches/([^/]+)", batches.delete),
        ("POST", "/messages/batches/([^/]+)/cancel", batches.cancel),
        ("GET", "/messages/batches/([^/]+)/results", batches.results),
    ]


def _mistral(shelf: Shelf) -> list[Route]:
    jobs = MistralJobs(shelf)
    return [
        ("POST", "/batch/jobs", jobs.create),
        ("GET", "/batch/jobs", jobs.page),
        ("GET", "/batch/jobs/([^/]+)", jobs.get),
        ("DELETE", "/batch/jobs/([^/]+)", jobs.delete),
        ("POST", "/batch/jobs/([^/]+)/cancel", jobs.cancel),
    ]


def _openrouter(shelf: Shelf) -> list[Route]:
    batches = OpenRouterBatches(shelf)
    return [
        ("POST", "/api/v1/batches", batches.create),
        ("GET", "/api/v1/batches", batches.page),
        ("GET", "/api/v1/batches/([^/]+)", batches.get),
        ("DELETE", "/api/v1/batches/([^/]+)", batches.delete),
    ]


def _files(shelf: Shelf) -> list[Route]:
    files = Files(shelf)
    return [
        ("POST", "/files/upload" if shelf.settings.batch.dialect == "together" else "/files", files.upload),
        ("GET", "/files", files.page),
        ("GET", "/files/([^/]+)", files.get),
        ("GET", "/files/([^/]+)/content", files.content),
        ("DELETE", "/files/([^/]+)", files.delete),
    ]


def _xai(shelf: Shelf) -> list[Route]:
    batches = XaiBatches(shelf)
    return [
        ("POST", "/batches", batches.create),
        ("GET", "/batches", batches.page),
        ("GET", "/batches/([^/:]+)", batches.get),
        ("POST", "/batches/([^/:]+):cancel", batches.cancel),
        ("GET", "/batches/([^/:]+)/results", batches.results),
    ]


def _openai(shelf: Shelf) -> list[Route]:
    batches = OpenAIBatches(shelf)
    return [
        ("POST", "/batches", batches.create),
        ("GET", "/batches", batches.page),
        ("GET", "/batches/([^/]+)", batches.get),
        ("POST", "/batches/([^/]+)/cancel", batches.cancel),
    ]
