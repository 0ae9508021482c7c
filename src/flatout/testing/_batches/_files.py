"""Files as OpenAI's and Mistral's endpoints keep them: a form uploads one, and its name gets it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._request import Ask, BadBody, Part, Refused
from ._shelf import FILE_LIFE, File, Shelf
from ._told import LINES, Told, cut, encode

MOST_BYTES = 200 * 1024 * 1024
"""The largest file of a batch (OpenAI: 200 MB)."""

PURPOSES = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})
_FIELDS = frozenset({"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"})
_XAI = frozenset({"file", "expires_after"})
_TOGETHER = frozenset({"file", "purpose", "file_name", "file_type"})
LIFE = range(3_600, 2_592_001)
"""Seconds after which a file may expire (OpenAI: an hour to 30 days)."""


def bad(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refused:
    """A refusal in OpenAI's words."""
    kind = "invalid_request_error"
    return Refused(status, encode({"error": {"message": message, "type": kind, "param": param, "code": code}}))


class Files:
    """The endpoints of files.

    Args:
        shelf: where they are kept.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._purpose, self._purposes, self._fields = "batch", PURPOSES, _FIELDS
        self._needed: Sequence[str] = ("purpose", "file")
        self._cursor = "after"  # what the query for the next page of a list is called
        if shelf.settings.batch.dialect == "together":
            self._purpose, self._purposes = "batch-api", frozenset({"batch-api", "fine-tune", "eval"})
            self._fields, self._needed = _TOGETHER, ("purpose", "file", "file_name")
        elif shelf.settings.batch.dialect == "xai":  # its files have no purpose
            self._fields, self._needed, self._cursor = _XAI, ("file",), "pagination_token"

    def upload(self, now: float, wall: float, ask: Ask) -> Told:
        """``POST /files``."""
        try:
            form = ask.form()
        except BadBody as problem:
            raise bad(str(problem)) from None
        if unknown := sorted(form.keys() - self._fields):
            raise bad(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
        purpose, data, name = self._checked(form)
        file = self._shelf.add(wall, ask.authorization, purpose, name, data, _life(form))
        return Told(encode(_described(file)), act="changed")

    def page(self, now: float, wall: float, ask: Ask) -> Told:
        """``GET /files``."""
        files = self._shelf.files(wall, ask.authorization)
        if purpose := ask.query.get("purpose"):
            files = [file for file in files if file.purpose == purpose]
        if ask.query.get("order") == "asc":
            files.reverse()
        try:
            found, more = cut(files, ask.query.get(self._cursor), limit_of(ask, 10_000, 10_000))
        except KeyError as unknown:
            raise _no_file(str(unknown.args[0])) from None
        told: dict[str, Any] = {"object": "list", "data": [_described(file) for file in found]}
        if self._cursor == "after":
            return Told(encode({**told, "has_more": more}))
        return Told(encode({**told, self._cursor: found[-1].id if more else None}))

    def get(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /files/{id}``."""
        return Told(encode(_described(self._file(wall, ask, name))))

    def content(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``GET /files/{id}/content``."""
        file = self._file(wall, ask, name)
        return Told(file.data, media_type=LINES, act="results" if file.purpose == "batch_output" else "read")

    def delete(self, now: float, wall: float, ask: Ask, name: str) -> Told:
        """``DELETE /files/{id}``."""
        self._shelf.remove(self._file(wall, ask, name))
        return Told(encode({"id": name, "object": "file", "deleted": True}), act="changed")

    def _file(self, wall: float, ask: Ask, name: str) -> File:
        file = self._shelf.file(wall, ask.authorization, name)
        if file is None:
            raise _no_file(name)
        return file

    def _checked(self, form: Mapping[str, Part]) -> tuple[str, bytes, str]:
        for field in self._needed:
            if field not in form:
                raise bad(f"'{field}' is a required property", field)
        purpose, file = form["purpose"].text if "purpose" in form else self._purpose, form["file"]
        if purpose not in self._purposes:
            raise bad(f"'{purpose}' is not one of {sorted(self._purposes)} - 'purpose'", "purpose")
        if file.filename is None:
            raise bad("'file' is a file, and has a filename", "file")
        if not file.data:
            raise bad("File is empty.", "file")
        if purpose == self._purpose and not file.filename.endswith(".jsonl"):
            raise bad("Invalid file format for Batch API. Must be .jsonl", "file")
        most = self._shelf.settings.batch.most_bytes or MOST_BYTES
        if len(file.data) > most:
            raise bad(f"File is too large: {len(file.data):,} bytes, of {most:,} at most.", "file", status=413)
        return purpose, file.data, file.filename


def limit_of(ask: Ask, usual: int, most: int) -> int:
    """How many items a page of a list has.

    Raises:
        Refused: the query asks for a number that is not allowed.
    """
    text = ask.query.get("limit", str(usual))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise bad(f"limit is a number from 1 to {most:,}, not {text!r}", "limit", "invalid_value")
    return int(text)


def life_of(seconds: Any, anchor: Any, param: str) -> float:
    """Seconds that a file is kept.

    Raises:
        Refused: they are not allowed.
    """
    if anchor != "created_at":
        raise bad(f"{param}.anchor is 'created_at', not {anchor!r}", f"{param}.anchor", "invalid_value")
    if type(seconds) is not int or seconds not in LIFE:
        message = f"{param}.seconds is a whole number from {LIFE[0]} to {LIFE[-1]}, not {seconds!r}"
        raise bad(message, f"{param}.seconds", "invalid_value")
    return seconds


def _life(form: Mapping[str, Part]) -> float:
    anchor, seconds = (form.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return FILE_LIFE
    number = seconds.text if seconds is not None else ""
    return life_of(
        int(number) if number.isdecimal() else number, anchor.text if anchor is not None else "", "expires_after"
    )


def _no_file(name: str) -> Refused:
    return bad(f"No such File object: {name}", "id", status=404)


def _described(file: File) -> dict[str, Any]:
    return {
        "object": "file",
        "id": file.id,
        "purpose": file.purpose,
        "filename": file.name,
        "bytes": len(file.data),
        "created_at": int(file.created),
        "expires_at": int(file.expires),
        "status": "processed",
        "status_details": None,
    }
