"""Images and files in messages: read and checked once, before anything is sent.

An `Image` or a `File` stands in a message's content beside plain strings. It is made from a path, from bytes or from an
address. The content is read, checked and encoded when the object is created. So a file that is not an image raises an
error on the line that names it and costs nothing, and a call with several attempts encodes it once. The first bytes
decide the type; a name's ending counts only if they cannot tell. An address is passed on unchanged, and never fetched.

``part`` is the equivalent part of OpenAI's chat completions, which every wire format translates.
"""

from __future__ import annotations

import base64
import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

from flatout.errors import ConfigError

MOST_BYTES = 20 * 1024 * 1024
"""The largest attachment, in bytes. OpenAI's guide to images allows 20 MB for one image, Gemini 20 MB for a whole
request. Some providers allow less (Anthropic 5 MB for an image), and say so themselves."""

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview"
"""A path, bytes, or an address: a string that begins with ``http://`` or ``https://``. A ``data:`` address is bytes."""

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/heic", "image/heif")
"""Types of images that at least one provider accepts. Only Gemini accepts HEIC and HEIF."""

_HEIF = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"M4A ", b"M4B "), "audio/mp4"),
}
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"fLaC\0", "audio/flac"),
    (b"OggS\0", "audio/ogg"),
)
# In lower case. These marks are too short to rely on, but good enough for a message.
_APPEARANCES = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"bm", "a BMP image"),
    (b"ii*\0", "a TIFF image"),
    (b"mm\0*", "a TIFF image"),
    (b"pk\3\4", "a ZIP archive"),
)
_AUDIO = {
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
}
"""Types of sound, and OpenAI's names for them in ``input_audio``."""

_SAME = {
    "image/jpg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "application/x-pdf": "application/pdf",
}
_OFFICE = "application/vnd.openxmlformats-officedocument"
_ENDINGS = {  # not the system's table: it differs between machines, and so would the calls' fingerprints
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".html": "text/html",
    ".xml": "text/xml",
    ".json": "application/json",
    ".pdf": "application/pdf",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
}
_TELLING = frozenset({*IMAGES, "application/pdf", *_AUDIO} - {"audio/aac"})
"""Types that the first bytes always reveal."""


class Attachment:
    """The base of `Image` and `File`. Two are equal if they have the same content and are sent in the same way.

    Attributes:
        media_type: its type, such as ``image/png``; None for an address without a stated type.
        size: its size in bytes; None for an address.
        sha256: the digest of its bytes, or of its address, in hex.
        source: for people: the file's name without its folders, or the address without its query, which may hold a
            key; None for bytes.
        part: the equivalent part of OpenAI's chat completions. Do not change it.
    """

    __slots__ = ("_sent_as", "media_type", "part", "sha256", "size", "source")

    kind: ClassVar[str] = "attachment"

    def __init__(self, content: _Content, media_type: str | None, part: dict[str, Any], **sent_as: str | None) -> None:
        self.media_type: str | None = media_type
        self.size: int | None = None if content.data is None else len(content.data)
        self.sha256: str = sha256((content.url or "").encode() if content.data is None else content.data).hexdigest()
        self.source: str | None = content.source
        self.part: dict[str, Any] = part
        self._sent_as = {name: value for name, value in sent_as.items() if value is not None}

    def __repr__(self) -> str:
        size = "address" if self.size is None else f"{self.size:,} bytes"
        facts = (self.source and repr(self.source), self.media_type, size)
        return f"{type(self).__name__}({', '.join(word for word in facts if word)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attachment) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self.sha256)

    def _identity(self) -> tuple[object, ...]:
        return self.kind, self.sha256, self.size, self.media_type, self._sent_as

    def described(self) -> dict[str, Any]:
        """A description that identifies it, as JSON values. Run files store this in its place."""
        facts = {"media_type": self.media_type, "sha256": self.sha256, "bytes": self.size, "source": self.source}
        return {self.kind: {**facts, **self._sent_as}}


class Image(Attachment):
    """An image in a message: ``{"role": "user", "content": ["What is this?", Image("cat.png")]}``.

    A file is read once, here. It stays in memory (as base64, a third larger than the file) as long as the image does.

    Args:
        source: a path, bytes, or an address (``https://…``), which is passed on and never fetched.
        media_type: its type, to be checked against the content.
        detail: how closely to look: ``low``, ``high`` or ``auto``, for providers that support it (OpenAI's do).

    Raises:
        ConfigError: the file is missing, empty, unreadable or above 20 MB, or it is not a PNG, JPEG, GIF, WebP or HEIC.
    """

    __slots__ = ()

    kind = "image"

    def __init__(self, source: Source, *, media_type: str | None = None, detail: str | None = None) -> None:
        content = _read(source)
        stated = _stated(media_type, content)
        detected = stated if content.data is None else _detected_type(content.data)
        if content.data is not None and detected not in IMAGES:
            known = "an image is a PNG, JPEG, GIF, WebP or HEIC"
            raise ConfigError(f"{content.shown} is not an image: it looks like {_appearance(content.data)}; {known}")
        if detected is not None and not detected.startswith("image/"):
            raise ConfigError(f"{content.shown}: {detected} is not an image; give it as a File")
        _check_type(content, stated, detected)
        if detail is not None and not isinstance(detail, str):
            raise ConfigError(f"an image's detail is low, high or auto, not {detail!r}")
        part = {"url": _url_of(content, detected)} | ({} if detail is None else {"detail": detail})
        super().__init__(content, detected, {"type": "image_url", "image_url": part}, detail=detail)


class File(Attachment):
    """A document or a recording in a message: PDF, text, audio, or anything else that the provider accepts.

    A file is read once, here. It stays in memory (as base64, a third larger than the file) as long as the object does.

    Args:
        source: a path, bytes, or an address (``https://…``), which is passed on and never fetched.
        name: the name that the provider gets; if None, the file's own, without its folders.
        media_type: its type, to be checked against the content; needed if neither the first bytes nor the name's ending
            reveal it.

    Raises:
        ConfigError: the file is missing, empty, unreadable or above 20 MB, or not of the stated type.
    """

    __slots__ = ("name",)

    kind = "file"

    def __init__(self, source: Source, *, name: str | None = None, media_type: str | None = None) -> None:
        content = _read(source)
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"a file's name is a text, not {name!r}")
        stated = _stated(media_type, content)
        detected = stated if content.data is None else _type_of(content, stated, name)
        if detected in IMAGES:
            raise ConfigError(f"{content.shown} is an image ({detected}); give it as an Image")
        name = name or content.name or f"file{_ending(detected)}"
        if detected in _AUDIO and content.data is not None:
            sound = {"data": _base64(content.data), "format": _AUDIO[detected]}
            super().__init__(content, detected, {"type": "input_audio", "input_audio": sound})
        else:
            part = {"filename": name, "file_data": _url_of(content, detected)}
            super().__init__(content, detected, {"type": "file", "file": part}, name=name)
        self.name: str = name


class _Content(NamedTuple):
    """The content of a source.

    Attributes:
        shown: the source, as messages show it.
        source: the source, as run files store it.
        name: the file's name.
        data: the bytes; None for an address.
        url: the address.
        stated: the type that a ``data:`` address states.
    """

    shown: str
    source: str | None = None
    name: str | None = None
    data: bytes | None = None
    url: str | None = None
    stated: str | None = None


def _read(source: object) -> _Content:
    """Read a source, without checking its type."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _sized(_Content(f"an attachment of {memoryview(source).nbytes:,} bytes", data=bytes(source)))
    if isinstance(source, str):
        head = source[:8].lower()
        if head.startswith(("http://", "https://")):
            return _address(source)
        if head.startswith("data:"):
            return _sized(_data_address(source))
    elif not isinstance(source, os.PathLike):
        raise ConfigError(f"an attachment is a path, bytes or an address, not a {type(source).__name__}")
    return _sized(_file(os.fsdecode(source)))


def _file(path: str) -> _Content:
    shown = path if len(path) <= 200 else f"{path[:200]}…"
    if not path or "\0" in path:
        raise ConfigError("an attachment's path is empty, or holds a NUL")
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block forever
            raise ConfigError(f"{shown} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
        _check_size(shown, status.st_size)
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    name = Path(path).name
    return _Content(shown, source=name, name=name, data=data)


def _address(url: str) -> _Content:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigError(f"an attachment's address has no host, or holds a space: {url[:50]!r}")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?…' if parts.query else ''}"
    return _Content(shown, source=shown, name=parts.path.rpartition("/")[2] or None, url=url)


def _data_address(url: str) -> _Content:
    head, comma, data = url.partition(",")
    media_type, *options = head[len("data:") :].split(";")
    try:
        raw = unquote_to_bytes(data)
        raw = base64.b64decode(raw, validate=True) if "base64" in options else raw
    except ValueError:
        comma = ""
    if not comma:
        raise ConfigError("a data: address holds no data, or invalid base64")
    return _Content("a data: address", data=raw, stated=media_type or None)


def _sized(content: _Content) -> _Content:
    size = len(content.data or b"")
    if not size:
        raise ConfigError(f"{content.shown} is empty")
    _check_size(content.shown, size)
    return content


def _check_size(shown: str, size: int) -> None:
    if size > MOST_BYTES:
        most = f"the most is {MOST_BYTES // 1024 // 1024} MB"
        raise ConfigError(f"{shown} has {size / 1024 / 1024:,.1f} MB; {most}: make it smaller, or give an address")


def _stated(media_type: object, content: _Content) -> str | None:
    """The type that the user states, in its usual spelling."""
    if media_type is None:
        media_type = content.stated
    if media_type is None:
        return None
    if not isinstance(media_type, str) or media_type.count("/") != 1 or not media_type.isascii():
        raise ConfigError(f"{content.shown}: a media_type looks like image/png, not {media_type!r}")
    plain = media_type.partition(";")[0].strip().lower()
    return _SAME.get(plain, plain)


def _detected_type(data: bytes) -> str | None:
    """The type that the first bytes reveal; None if they do not."""
    head = data[:16]
    for beginning, media_type in _BEGINNINGS:
        if head.startswith(beginning):
            return media_type
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _HEIF.get(head[8:12])
    tagged = head[:3] == b"ID3" and head[3:4] < b"\x10"
    if tagged or (head[:1] == b"\xff" and head[1:2] in (b"\xfb", b"\xfa", b"\xf3", b"\xf2")):  # MPEG layer III
        return "audio/mpeg"
    return None


def _type_of(content: _Content, stated: str | None, name: str | None) -> str:
    """A file's type: from its first bytes, from the stated type, from its name, or because it is text."""
    data = content.data or b""
    detected = _detected_type(data)
    endings = (Path(given).suffix.lower() for given in (content.name, name) if given)
    expected = stated or next((_ENDINGS[ending] for ending in endings if ending in _ENDINGS), None)
    if detected is not None:
        _check_type(content, stated, detected)
        return detected
    if expected in _TELLING:
        raise ConfigError(f"{content.shown} should be {expected}, but looks like {_appearance(data)}")
    if expected is None and _is_text(data):
        return "text/plain"
    if expected is None:
        raise ConfigError(f"{content.shown} looks like {_appearance(data)}: give its media_type")
    if expected.startswith("text/") and not _is_text(data):
        raise ConfigError(f"{content.shown} should be {expected}, but is not text in UTF-8")
    return expected


def _check_type(content: _Content, stated: str | None, detected: str | None) -> None:
    heif = {"image/heic", "image/heif"}  # two names for one container format
    if stated is not None and stated != detected and {stated, detected} != heif:
        raise ConfigError(f"{content.shown} should be {stated}, but looks like {detected}")


def _appearance(data: bytes) -> str:
    """What the data looks like, for a message."""
    if (detected := _detected_type(data)) is not None:
        return detected
    head = data[:256].lower().lstrip(b"\xef\xbb\xbf \t\r\n")
    named = (name for beginning, name in _APPEARANCES if head.startswith(beginning))
    return next(named, "text" if _is_text(data) else "no known type")


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _ending(media_type: str | None) -> str:
    return next((ending for ending, known in _ENDINGS.items() if known == media_type), "")


def _url_of(content: _Content, media_type: str | None) -> str:
    return f"data:{media_type};base64,{_base64(content.data)}" if content.data is not None else content.url or ""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
