"""What several batch formats have in common: the rows are uploaded as a file, or they travel in the create request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flatout.lanes.batch.format import Found, Job, Line, Refusal, ResultReader, Uploaded
from flatout.layer import Request, Response
from flatout.providers.wire.answer import as_dicts, as_text

from .refusals import refused
from .results import Lines
from .wire import Server, segment


class Shape:
    """The part of a `flatout.lanes.batch.format.BatchFormat` that all formats share.

    Args:
        server: the requests to the endpoint.
        found: the row in a line of results.
    """

    def __init__(self, server: Server, found: Callable[[bytes], Found]) -> None:
        self._server = server
        self._found = found

    def before_upload(self, stamp: str, lines: Sequence[Line], /) -> Request | None:
        """None: nothing goes before the upload."""
        return None

    def job(self, response: Response, /) -> Job:
        """The batch in an answer."""
        return self._job(self._server.read(response))

    def refused(self, response: Response, /) -> tuple[Refusal, str] | None:
        """Why an answer is a refusal."""
        return refused(response, self._server.endpoint)

    def reader(self, file: str | None = None, /) -> ResultReader:
        """A reader for results, which are lines."""
        return Lines(self._found)

    def files(self, cursor: str | None, /) -> Request | None:
        """None: there is no list of uploaded files."""
        return None

    def listed_files(self, response: Response, /) -> tuple[Sequence[Uploaded], str | None]:
        """Never asked for: there is no list."""
        raise self._server.broken("a list of files")

    def file(self, file: str, /) -> Request | None:
        """None: no uploaded file is described."""
        return None

    def described_file(self, response: Response, /) -> Uploaded:
        """Never asked for: no uploaded file is described."""
        raise self._server.broken("a file")

    def uploads(self, size: int, /) -> bool:
        """Always."""
        return True

    def _job(self, data: dict[str, Any]) -> Job:
        raise NotImplementedError


class FileShape(Shape):
    """Rows and results are files, under the paths that OpenAI has for them."""

    purpose = "batch"
    """The purpose of uploaded files."""

    def uploaded(self, stamp: str, response: Response, /) -> str:
        """The file's id."""
        return self._server.identity(self._server.read(response), "a file's id")

    def files(self, cursor: str | None, /) -> Request | None:
        """The request for a page of uploaded files."""
        return self._server.request("GET", "/files", purpose=self.purpose, after=cursor)

    def listed_files(self, response: Response, /) -> tuple[Sequence[Uploaded], str | None]:
        """The files on a page, and the id to go on after."""
        data = self._server.read(response)
        found = [file for item in as_dicts(data.get("data")) if (file := _file_in(item)).id]
        return found, found[-1].id if found and data.get("has_more") is True else None

    def file(self, file: str, /) -> Request | None:
        """The request that describes a file."""
        return self._server.request("GET", f"/files/{segment(file)}")

    def described_file(self, response: Response, /) -> Uploaded:
        """The file in an answer."""
        return _file_in(self._server.read(response))

    def results(self, file: str, /) -> Request:
        """The request for a file's content."""
        return self._server.request("GET", f"/files/{segment(file)}/content")

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a file."""
        return self._server.request("DELETE", f"/files/{segment(file)}")


class RequestShape(Shape):
    """The rows travel in the create request, so nothing is uploaded."""

    def uploads(self, size: int, /) -> bool:
        """Never: the rows travel in `create`."""
        return False

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """Never asked for: nothing is uploaded."""
        raise self._server.broken("an upload")

    def uploaded(self, stamp: str, response: Response, /) -> str:
        """Never asked for: nothing is uploaded."""
        raise self._server.broken("a file, for nothing was uploaded")


def _file_in(data: dict[str, Any]) -> Uploaded:
    return Uploaded(as_text(data.get("id")) or "", as_text(data.get("filename")) or "")
