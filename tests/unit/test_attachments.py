"""Images and files: what is taken, what is refused before anything is sent, and what a run file keeps of them."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import os
import pickle
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import Call, Client, ConfigError, File, Image, RunMismatch
from flatout.durable.records import content, fingerprint
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from flatout.values import attachments

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(20)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(20)
IMAGES = {
    "image/png": PNG,
    "image/jpeg": JPEG,
    "image/gif": b"GIF89a" + bytes(10),
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "image/heic": b"\0\0\0\x18ftypheic" + bytes(8),
    "image/heif": b"\0\0\0\x18ftypmif1" + bytes(8),
}
SOUNDS = {
    "mp3": b"ID3\x04\0\0" + bytes(20),
    "wav": WAV,
    "flac": b"fLaC\0\0\0\x22",
    "ogg": b"OggS\0\2" + bytes(20),
    "m4a": b"\0\0\0\x18ftypM4A " + bytes(8),
}


def question(*parts):
    return Call(messages=[{"role": "user", "content": list(parts)}])


def refused(make, *given, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        make(*given, **options)
    return str(caught.value)


@pytest.mark.parametrize("media_type", IMAGES)
def test_an_image_is_known_by_its_first_bytes(media_type, tmp_path):
    """A picture with a wrong ending, or none, would be sent under a wrong type, and refused after the upload."""
    (tmp_path / "cat.dat").write_bytes(IMAGES[media_type])
    for source in (IMAGES[media_type], bytearray(IMAGES[media_type]), tmp_path / "cat.dat", f"{tmp_path}/cat.dat"):
        image = Image(source)
        assert (image.media_type, image.size) == (media_type, len(IMAGES[media_type]))
        url = f"data:{media_type};base64,{base64.b64encode(IMAGES[media_type]).decode()}"
        assert image.part == {"type": "image_url", "image_url": {"url": url}}
    assert Image(tmp_path / "cat.dat", detail="low").part["image_url"]["detail"] == "low"
    assert Image(b"GIF87a").media_type == "image/gif"


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"\xef\xbb\xbf <html>", "an HTML page"),
        (b"<svg xmlns='x'/>", "an SVG drawing"),
        (b"hello", "text"),
        (b"\x00\x01\x02\xff", "no known type"),
        (b"PK\3\4....", "a ZIP archive"),
        (b"BM\xff\xff", "a BMP image"),
        (PDF, "application/pdf"),
        (WAV, "audio/wav"),
        (b"\0\0\0\x18ftypavif" + bytes(8), "image/avif"),
        (b"RIFF\x24\0\0\0AVI LIST", "no known type"),
        (PNG[:4], "no known type"),
    ],
)
def test_what_is_no_image_is_refused_by_name(data, looks, tmp_path):
    """A saved error page among a thousand pictures would be paid for, or be a 400 that names no file."""
    path = tmp_path / "cat.png"
    path.write_bytes(data)
    message = refused(Image, path)
    assert str(path) in message
    assert f"looks like {looks}" in message


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    """The run would end with a bare OSError, or wait for a pipe for ever."""
    (tmp_path / "empty.png").write_bytes(b"")
    assert "empty.png is empty" in refused(Image, tmp_path / "empty.png")
    assert "missing.png cannot be read: No such file" in refused(Image, tmp_path / "missing.png")
    assert refused(Image, tmp_path).endswith("is a folder")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(File, str(tmp_path / "pipe"))
    assert "is empty" in refused(Image, "")
    assert "NUL" in refused(File, "a\0b")
    assert "cannot be read" in refused(Image, "x" * 5_000)
    assert len(refused(Image, "x" * 5_000)) < 300
    assert "is empty" in refused(Image, b"")
    for wrong in (None, 5, ["cat.png"], {"url": "x"}, open):
        assert "a path, bytes or an address" in refused(Image, wrong)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_refused_by_name(tmp_path):
    """The run would end with a bare PermissionError."""
    (tmp_path / "cat.png").write_bytes(PNG)
    (tmp_path / "cat.png").chmod(0)
    assert "cat.png cannot be read: Permission denied" in refused(Image, tmp_path / "cat.png")


def test_what_is_too_large_is_refused_unread(tmp_path):
    """A video given by mistake would fill the memory, and be uploaded with each attempt."""
    path = tmp_path / "cat.png"
    with path.open("wb") as file:
        file.write(PNG)
        file.truncate(attachments.MOST_BYTES + 1)
    assert "has 20.0 MB; the most is 20 MB" in refused(Image, path)
    assert "the most is 20 MB" in refused(File, bytes(attachments.MOST_BYTES + 1))


def test_a_stated_type_is_held_against_the_bytes():
    """A wrong type would be sent, and refused by a provider in words of its own."""
    assert Image(JPEG, media_type="image/jpg").media_type == "image/jpeg"
    assert Image(PNG, media_type="IMAGE/PNG; q=1").media_type == "image/png"
    assert "should be image/jpeg, but looks like image/png" in refused(Image, PNG, media_type="image/jpeg")
    assert "should be application/pdf, but looks like text" in refused(File, b"hello", media_type="application/pdf")
    assert "should be audio/wav, but looks like application/pdf" in refused(File, PDF, media_type="audio/wav")
    assert "not text in UTF-8" in refused(File, b"\xff\xfeh\0", media_type="text/plain")
    for wrong in ("png", "", 5, "a/b/c"):
        assert "a media_type looks like image/png" in refused(Image, PNG, media_type=wrong)


def test_addresses_are_passed_on_and_never_opened():
    """flatout would fetch what it was not asked to fetch, or look for a file of that name."""
    image = Image("https://example.org/cat.png?size=1", detail="high")
    assert image.part["image_url"] == {"url": "https://example.org/cat.png?size=1", "detail": "high"}
    assert (image.media_type, image.size) == (None, None)
    assert Image("HTTP://example.org/cat", media_type="image/png").media_type == "image/png"
    assert File("https://example.org/a/report.pdf").name == "report.pdf"
    for wrong in ("https://", "http:///cat.png", "https://a b/cat.png", "https://x/\n", "http://[x"):
        assert "address has no host" in refused(Image, wrong)
    assert "give it as a File" in refused(Image, "https://example.org/a", media_type="application/pdf")
    assert "give it as an Image" in refused(File, "https://example.org/a", media_type="image/png")


def test_data_addresses_are_bytes():
    """A picture pasted as ``data:`` would be taken for a file's name."""
    address = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert Image(address) == Image(PNG)
    assert "should be image/gif" in refused(Image, address.replace("png", "gif", 1))
    assert File("data:text/plain,hello%20world").size == 11
    for wrong in ("data:image/png;base64,***", "data:image/png;base64", "data:"):
        assert "no data" in refused(Image, wrong)
    assert "is empty" in refused(Image, "data:,")


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("a.pdf", PDF, "application/pdf"),
        ("a", PDF, "application/pdf"),
        ("a.txt", b"hello", "text/plain"),
        ("a.md", b"# hello", "text/markdown"),
        ("a.csv", "größe\n1".encode(), "text/csv"),
        ("a.json", b"{}", "application/json"),
        ("a.py", b"print()", "text/plain"),
        ("a.docx", b"PK\3\4\xff", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ],
)
def test_a_files_type_is_found(name, data, media_type, tmp_path):
    """Documents would be sent as something that they are not."""
    (tmp_path / name).write_bytes(data)
    file = File(tmp_path / name)
    located = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    assert file.media_type == media_type
    assert file.part == {"type": "file", "file": {"filename": name, "file_data": located}}
    assert File(tmp_path / name, name="other").part["file"]["filename"] == "other"


def test_files_that_are_not_what_they_seem_are_refused(tmp_path):
    """An unreadable document would be paid for."""
    (tmp_path / "a.pdf").write_bytes(b"<html>not found")
    assert "should be application/pdf, but looks like an HTML page" in refused(File, tmp_path / "a.pdf")
    assert "give its media_type" in refused(File, b"\0\1\2")
    assert File(b"\0\1\2", media_type="video/mp4").media_type == "video/mp4"
    assert "give it as an Image" in refused(File, PNG)
    assert "name is a text" in refused(File, PDF, name=5)
    assert File(PDF).name == "file.pdf"


@pytest.mark.parametrize("format", SOUNDS)
def test_sounds_are_sent_as_sounds(format):
    """A recording would be sent as a document."""
    sound = {"data": base64.b64encode(SOUNDS[format]).decode(), "format": format}
    assert File(SOUNDS[format]).part == {"type": "input_audio", "input_audio": sound}


def test_the_bytes_and_the_query_are_not_shown():
    """A log line would hold megabytes, or the signature of an address."""
    assert repr(Image(PNG)) == "Image(image/png, 70 bytes)"
    signed = Image("https://user:pass@example.org/cat.png?sig=secret")
    assert repr(signed) == "Image('https://example.org/cat.png?…', address)"
    kept = content(question("x", signed, Image(PNG)))
    assert b"secret" not in kept
    assert b"pass" not in kept


def test_equal_images_are_equal():
    """The same picture, read twice, would be another one."""
    assert Image(PNG) == Image(bytearray(PNG))
    assert hash(Image(PNG)) == hash(Image(PNG))
    different = {
        Image(PNG), Image(JPEG), Image(PNG, detail="low"), Image("https://a.example/x"), Image("https://a.example/y"),
        Image("https://a.example/x", media_type="image/png"), File(PDF), File(PDF, name="b"), File(WAV),
    }  # fmt: skip
    assert len(different) == 9
    assert Image(PNG) != PNG
    assert copy.deepcopy(Image(PNG)) == pickle.loads(pickle.dumps(Image(PNG))) == Image(PNG)


def test_a_run_file_keeps_a_digest(tmp_path):
    """A million rows with pictures would be stored twice; or another picture be answered from the old run."""
    (tmp_path / "cat.png").write_bytes(PNG)
    kept = content(question("What is it?", Image(tmp_path / "cat.png", detail="low")))
    told = {"media_type": "image/png", "sha256": sha256(PNG).hexdigest(), "bytes": 70, "source": "cat.png"}
    assert json.loads(kept)["messages"][0]["content"] == ["What is it?", {"image": {**told, "detail": "low"}}]
    assert base64.b64encode(PNG)[:20] not in kept
    assert str(tmp_path).encode() not in kept
    parts = [
        Image(PNG), Image(JPEG), Image(PNG, detail="low"), Image("https://a.example/x"), File(PDF), File(PDF, name="b"),
        Image("https://a.example/x?id=1"), Image("https://a.example/x?id=2"), File(WAV), File(PDF + b"\n"),
    ]  # fmt: skip
    assert len({fingerprint(content(question(part))) for part in parts}) == len(parts)
    assert content(question(Image(PNG))) == content(question(Image(PNG)))


def test_another_picture_under_the_same_name_is_refused_on_resume(tmp_path):
    """The answer to the old picture would be given for the new one; or an unchanged picture be paid for again."""

    models = []

    async def ask():
        models.append(ProviderModel(ProviderSettings(latency=0)))
        async with Client("openai/m", api_key="sk-1", transport=SimulatedTransport(models[-1])) as client:
            return await client.gather([question("What is it?", Image(path))], store=tmp_path / "run.flatout")

    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    first = asyncio.run(ask())
    assert first[0].ok
    assert asyncio.run(ask())[0].text == first[0].text
    path.write_bytes(PNG + b"!")
    with pytest.raises(RunMismatch, match="row 1, parameter messages: was "):
        asyncio.run(ask())
    assert [model.stats()["received"] for model in models] == [1, 0, 0]


@given(st.binary(max_size=40))
def test_any_bytes_are_taken_or_refused(data):
    """One odd row would end the run with an error that no program expects."""
    for kind in (Image, File):
        try:
            made = kind(data)
        except ConfigError:
            continue
        assert made.size == len(data)


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused(text):
    """One odd row would end the run with an error that no program expects."""
    for source in (text, f"https://{text}", f"data:{text}", f"data:;base64,{text}"):
        try:
            Image(source)
        except ConfigError:
            continue
