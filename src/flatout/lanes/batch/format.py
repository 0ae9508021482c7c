"""What a provider's batch endpoint is to the batch lane: a pure codec between our rows and its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from flatout.layer import Request, Response

Refusal = Literal["full", "too_large", "invalid", "unknown", "denied", "again"]
"""Why a request about a batch was refused.

``full``: the queue is full; wait. ``too_large``: this one batch is too large; halve it. ``invalid``: a row in it is
wrong. ``unknown``: the id is unknown, or another key's. ``denied``: the key, the account, the model or the endpoint
cannot do it, so that no row has a chance. ``again``: the provider is in trouble."""


class Line(Struct, frozen=True, gc=False):
    """One row of a batch.

    Attributes:
        key: names the row among the results: the batch's stamp and the row's index.
        body: the request's JSON, as the live lane would send it.
    """

    key: str
    body: bytes


class Caps(Struct, frozen=True, kw_only=True):
    """The most that one batch may hold.

    Attributes:
        rows: requests.
        size: bytes of the whole upload.
        around: bytes that each row has around its body in the upload, at most.
        enqueued: prompt tokens of all open batches of one model; None if the provider names no bound.
        seconds: after which the provider gives a batch up.
    """

    rows: int
    size: int
    around: int = 256
    enqueued: int | None = None
    seconds: float = 86_400.0


class Job(Struct, frozen=True, kw_only=True):
    """A batch as its provider describes it.

    Attributes:
        id: the provider's name for it.
        state: ``open``; ``ended`` (there may be results, for all rows, some or none); or ``failed`` (it was refused as
            a whole, and nothing was run). States that we do not know are ``open``.
        said: the provider's own word for the state, for people: ``validating``; "" if it has none.
        stamp: our label; None if it carries none.
        rows: how many requests it has; None if it does not say.
        done: how many of them it says are finished. It is for people: such counts drift.
        whole: whether it says that all of them were run, so that there must be results.
        ended_at: when it had run them; Unix seconds. None if it does not say.
        created_at: Unix seconds; None if it does not say.
        files: where its results are: names of files, or addresses. Empty if it has no results, or if they are in
            ``inline``. A row may be in more than one of them.
        inline: results that came with the job.
        input_file: the uploaded file; None if no file was uploaded.
        itself: the name under which it is deleted, with the rows that travelled in it; "" if it is not.
        refusal: why it failed.
        line: the number of the line (from 1) that made it fail; None if it names none.
        reason: the provider's words.
    """

    id: str
    state: Literal["open", "ended", "failed"]
    said: str = ""
    stamp: str | None = None
    rows: int | None = None
    done: int | None = None
    whole: bool = False
    ended_at: float | None = None
    created_at: float | None = None
    files: tuple[str, ...] = ()
    inline: bytes = b""
    input_file: str | None = None
    itself: str = ""
    refusal: Refusal | None = None
    line: int | None = None
    reason: str = ""


class Uploaded(Struct, frozen=True, gc=False):
    """A file at the provider: the provider's name for it, and ours."""

    id: str
    name: str


class Found(Struct, frozen=True, gc=False):
    """One row among the results.

    Attributes:
        key: see `Line`; None if results are matched by position.
        position: its place in the batch, from 0; None if it has a key.
        state: ``answered`` (``body`` is what the live endpoint would have answered, with ``status``), ``expired`` or
            ``cancelled`` (it was not run).
        status: the HTTP status that the live endpoint would have sent.
        body: the answer's, or the error's, JSON.
    """

    state: Literal["answered", "expired", "cancelled"]
    key: str | None = None
    position: int | None = None
    status: int = 200
    body: bytes = b""


class ResultReader(Protocol):
    """Reads one file of results as it arrives, cut anywhere."""

    def feed(self, data: bytes, /) -> Sequence[Found]:
        """The rows in the next bytes.

        Raises:
            ProtocolError: this is no file of results.
        """
        ...

    def end(self) -> Sequence[Found]:
        """The rows in what is left. A line that was cut off is an error, so that the file is read again.

        Raises:
            ProtocolError: the file broke off.
        """
        ...

    @property
    def more(self) -> Sequence[str]:
        """After `end`: other files that belong to this one, such as its next page. They are read, too."""
        ...


class BatchFormat(Protocol):
    """One provider's batch endpoint, for one target and one kind of request. Requests carry the target's key."""

    caps: Caps
    labels: bool
    """Whether a job whose create was not answered can be found again: by its stamp, or by its own uploaded file.

    Otherwise by its time and its count of rows, and then by the keys in its results.
    """

    def before_upload(self, stamp: str, lines: Sequence[Line], /) -> Request | None:
        """The request that goes before `upload`, such as one that makes a place for the rows; None if none does."""
        ...

    def uploads(self, size: int, /) -> bool:
        """Whether rows of ``size`` bytes in all are uploaded, or travel in `create`. Each counts as in `caps`."""
        ...

    def upload(self, stamp: str, lines: Sequence[Line], /) -> Request:
        """The request that uploads the rows; only for a format that `uploads`."""
        ...

    def uploaded(self, stamp: str, response: Response, /) -> str:
        """The name of the uploaded file. The answer may also be that to `before_upload`.

        Raises:
            ProtocolError: the answer is broken.
        """
        ...

    def files(self, cursor: str | None, /) -> Request | None:
        """The request for a page of the uploaded files of this key, the newest first; None if there is no such list."""
        ...

    def listed_files(self, response: Response, /) -> tuple[Sequence[Uploaded], str | None]:
        """The files on a page, and the cursor of the next page; None on the last."""
        ...

    def file(self, file: str, /) -> Request | None:
        """The request that describes an uploaded file; None if its name is ours, and so tells whose it is."""
        ...

    def described_file(self, response: Response, /) -> Uploaded:
        """The file in the answer to `file`.

        Raises:
            ProtocolError: the answer is broken.
        """
        ...

    def create(self, stamp: str, lines: Sequence[Line], file: str | None, /) -> Request:
        """The request that creates the batch."""
        ...

    def job(self, response: Response, /) -> Job:
        """The job that the answer to `create` or `get` describes. That to `cancel` may be empty: ask again."""
        ...

    def refused(self, response: Response, /) -> tuple[Refusal, str] | None:
        """Why an answer is a refusal, and the provider's words; None if the request was accepted."""
        ...

    def get(self, job: str, /) -> Request:
        """The request that asks for a job."""
        ...

    def list(self, cursor: str | None, /) -> Request:
        """The request for a page of the jobs of this key, the newest first."""
        ...

    def listed(self, response: Response, cursor: str | None, /) -> tuple[Sequence[Job], str | None]:
        """The jobs on the page of a cursor, and the cursor of the next page; None on the last."""
        ...

    def cancel(self, job: str, /) -> Request | None:
        """The request that cancels a job; None if it cannot be cancelled."""
        ...

    def results(self, file: str, /) -> Request:
        """The request for one of `Job.files`, or of a reader's `more`."""
        ...

    def reader(self, file: str | None = None, /) -> ResultReader:
        """A reader for a file of results; None for `Job.inline`."""
        ...

    def delete(self, file: str, /) -> Request | None:
        """The request that deletes a file at the provider; None if it cannot be deleted.

        Under the name `Job.itself`, it deletes a job with its rows and its results.
        """
        ...
