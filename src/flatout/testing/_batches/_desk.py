"""Takes every request about batches to the format that knows it."""

from __future__ import annotations

import re
from collections.abc import Callable

from flatout.testing._settings import ProviderSettings
from flatout.testing._slots import SimulatedResponse, Wire

from ._anthropic import MessageBatches
from ._files import Files
from ._gemini import GeminiBatches, GeminiFiles
from ._mistral import MistralJobs
from ._openai import OpenAIBatches
from ._request import Ask, Refused
from ._shelf import AnswerRow, CountTokens, Shelf
from ._told import Told, encode

Handler = Callable[..., Told]
"""Answers a request, given the model's seconds, Unix seconds, the request and the names in its path."""

_ABOUT_BATCHES = re.compile(r"/(?:files|batches|batch/jobs)(?:/|\Z)|:batchGenerateContent\Z")


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
        together = settings.batch.dialect == "together"
        files, openai = Files(self.shelf), OpenAIBatches(self.shelf)
        gemini_files, gemini = GeminiFiles(self.shelf), GeminiBatches(self.shelf)
        anthropic, mistral = MessageBatches(self.shelf), MistralJobs(self.shelf)
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(f".*{pattern}"), handler)
            for method, pattern, handler in (
                ("POST", "/upload/v1beta/files", gemini_files.upload),
                ("GET", "/download/v1beta/files/([^/]+):download", gemini_files.content),
                ("DELETE", "/v1beta/files/([^/]+)", gemini_files.delete),
                ("POST", "/v1beta/models/([^/]+):batchGenerateContent", gemini.create),
                ("GET", "/v1beta/batches", gemini.page),
                ("GET", "/v1beta/batches/([^/]+)", gemini.get),
                ("DELETE", "/v1beta/batches/([^/]+)", gemini.delete),
                ("POST", "/v1beta/batches/([^/]+):cancel", gemini.cancel),
                ("POST", "/files/upload" if together else "/files", files.upload),
                ("GET", "/files", files.page),
                ("GET", "/files/([^/]+)", files.get),
                ("GET", "/files/([^/]+)/content", files.content),
                ("DELETE", "/files/([^/]+)", files.delete),
                ("POST", "/messages/batches", anthropic.create),
                ("GET", "/messages/batches", anthropic.page),
                ("GET", "/messages/batches/([^/]+)", anthropic.get),
                ("DELETE", "/messages/batches/([^/]+)", anthropic.delete),
                ("POST", "/messages/batches/([^/]+)/cancel", anthropic.cancel),
                ("GET", "/messages/batches/([^/]+)/results", anthropic.results),
                ("POST", "/batch/jobs", mistral.create),
                ("GET", "/batch/jobs", mistral.page),
                ("GET", "/batch/jobs/([^/]+)", mistral.get),
                ("POST", "/batch/jobs/([^/]+)/cancel", mistral.cancel),
                ("POST", "/batches", openai.create),
                ("GET", "/batches", openai.page),
                ("GET", "/batches/([^/]+)", openai.get),
                ("POST", "/batches/([^/]+)/cancel", openai.cancel),
            )
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
        kind = "batches" if wire == "whole" else "lost" if wire == "reset" else "cut"
        return SimulatedResponse(
            kind=kind, status=told.status, headers={"content-type": told.media_type}, body=told.body, wire=wire
        )

    def _told(self, now: float, wall: float, ask: Ask) -> Told:
        try:
            for method, pattern, handler in self._routes:
                if method == ask.method and (found := pattern.fullmatch(ask.path)) is not None:
                    return handler(now, wall, ask, *found.groups())
        except Refused as refused:
            return Told(refused.body, refused.status)
        message = f"Invalid URL ({ask.method} {ask.path})"
        return Told(encode({"error": {"message": message, "type": "invalid_request_error"}}), 404)
