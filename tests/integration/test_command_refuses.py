"""What cannot work is said in one sentence, before anything is sent and before anything is written."""

from __future__ import annotations

import codecs
import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.command_samples import Done, Provider, flatout, obey_permissions, provider
from tests.support.quick_commands import quick


class Case(NamedTuple):
    """A command that must be refused.

    Attributes:
        why: in the sentence.
        input: what is in in.jsonl, or in the file that ``files`` names.
        options: after ``run in.jsonl -o out.jsonl``.
        run: instead of ``in.jsonl -o out.jsonl``.
        files: other files.
        stdin: what is piped in.
        server: whether the provider's address is added, where the options name no model.
    """

    why: str
    input: bytes = b'"one"\n"two"\n'
    options: str = ""
    run: str = "in.jsonl -o out.jsonl"
    files: dict[str, bytes] | None = None
    stdin: bytes | None = None
    server: bool = True


CSV = {"in.csv": b"id,text\n1,one\n2,two\n"}
PICTURES: Any = {
    "run": "pictures.csv -o out.csv",
    "files": {"pictures.csv": b"f\nfox.png\ncat.png\n", "fox.png": b"\x89PNG\r\n\x1a\n....", "page.png": b"<html>404"},
}
BATCH = b'{"custom_id": "a", "url": "/v1/embeddings", "body": {"input": "x"}}\n'

CASES = {
    # The input
    "no such file": Case("nowhere.jsonl: no such file", run="nowhere.jsonl -o out.jsonl"),
    "a folder with nothing to read": Case(
        "sub: is a directory without files that can be read", run="sub -o out.jsonl", files={"sub/readme.md": b"x"}
    ),
    "a folder that the output is in": Case("out.jsonl: would be one of the files of the input", run=". -o out.jsonl"),
    "a pattern without files": Case("part-*.csv: matches no file", run="part-*.csv -o out.jsonl"),
    "a delimiter that is a word": Case("--delimiter is one character", options="--delimiter tab"),
    "empty": Case("in.jsonl: no rows", b""),
    "no JSON": Case("in.jsonl, line 3: not JSON", b'"one"\n\n{"prompt": two}\n'),
    "JSON that is cut off": Case("in.jsonl, line 2: not JSON: it ends too early", b'"one"\n{"prompt": "tw'),
    "neither prompt nor messages": Case("line 2: this row has no column prompt or messages", b'"one"\n{"text": "a"}\n'),
    "no such column in a row": Case(
        "line 2: --prompt uses {{ text }}, but this row has no column text",
        b'{"text": "a"}\n{"txt": "b"}\n',
        "--prompt {{text}}",
    ),
    "no such column at all": Case(
        "--prompt uses {{ txt }}, but the input has no column txt; it has: id, text",
        run="in.csv -o out.csv --prompt {{txt}}",
        files=CSV,
    ),
    "a template that is none": Case("--prompt", options="--prompt {{"),
    "a template in no file": Case("--prompt @p.txt: No such file", options="--prompt @p.txt"),
    "Windows-1252": Case(
        "line 2: byte 8 (0xe9) is not UTF-8; if the file is Windows-1252, add", b'"one"\n"la caf\xe9"\n'
    ),
    "UTF-16 without a mark": Case("line 1: a NUL byte; if the file is UTF-16", '"one"\n'.encode("utf-16-le")),
    "NUL bytes": Case("line 2: a NUL byte", b'"one"\n"t\0wo"\n'),
    "bytes that are not in the encoding": Case("line 1: byte 0x81", b'"\x81"\n', "--encoding cp1252"),
    "an id twice": Case(
        "line 3: the id 'a' was already used on line 1", b'{"id":"a","prompt":"1"}\n"2"\n{"id":"a","prompt":"3"}\n'
    ),
    "a batch line for something else": Case("line 1: a batch line for '/v1/embeddings'", BATCH),
    "a row's parameter of the wrong type": Case(
        "line 1: max_tokens: expected int", b'{"prompt": "a", "max_tokens": "b"}\n'
    ),
    "nothing in the pipe": Case("stdin: no rows", run="-", stdin=b""),
    "the pipe's first row": Case("stdin, line 1: not JSON", run="-", stdin=b"{nonsense\n"),
    "the pipe's columns": Case(
        "stdin, line 1: --prompt uses {{ b }}", run="- -o out.jsonl --prompt {{b}}", stdin=b'{"a": 1}\n'
    ),
    # The model and its key
    "no key": Case("no key for openai: set the environment variable OPENAI_API_KEY", options="-m openai/gpt-5-mini"),
    "no key for a row": Case(
        "line 2: no key for groq: set the environment variable GROQ_API_KEY",
        b'{"prompt": "a", "model": "ollama/x"}\n{"prompt": "b", "model": "groq/x"}\n',
        server=False,
    ),
    "no key for the pipe's first row": Case(
        "line 1: no key for groq", run="-", stdin=b'{"prompt": "b", "model": "groq/x"}\n', server=False
    ),
    "unknown provider": Case("no provider is named 'opnai'; did you mean openai?", options="-m opnai/gpt-5-mini"),
    "no provider": Case("the model 'gpt-5-mini' names no provider", options="-m gpt-5-mini"),
    "no model": Case("line 1: no model: name one, such as openai/gpt-5-mini", server=False),
    "no model for a table": Case(
        "no model: name one", run="in.csv -o out.csv --prompt {{text}}", files=CSV, server=False
    ),
    "no address": Case("the base URL 'localhost:8000' is not an http://", options="-m any --base-url localhost:8000"),
    "a model twice": Case("models names a model twice: use samples", options="-m any -m any"),
    "an unknown provider among several": Case(
        "no provider is named 'opnai'",
        run="in.csv -o out.csv --prompt {{text}}",
        files=CSV,
        options="-m ollama/a -m opnai/b",
    ),
    "an unknown provider among a pipe's": Case(
        "line 1: no provider is named 'opnai'", run="-", stdin=b'"one"\n', options="-m ollama/a -m opnai/b"
    ),
    "no samples": Case("invalid value for '--samples'", options="--samples 0"),
    # Schemas and pictures
    "no such schema": Case("--schema nowhere.json: No such file", options="--schema nowhere.json"),
    "a schema that is not JSON": Case("--schema in.jsonl: not JSON: ", options="--schema in.jsonl"),
    "a schema that is no object": Case(
        "--schema s.json: a JSON schema is an object, not a list", options="--schema s.json", files={"s.json": b"[1]"}
    ),
    "JSON that is no schema": Case(
        "--schema s.json: not a JSON schema: ", options="--schema s.json", files={"s.json": b'{"type": "person"}'}
    ),
    "a schema elsewhere": Case(
        "--schema s.json: not a JSON schema: ",
        options="--schema s.json",
        files={"s.json": b'{"$ref": "http://127.0.0.1:1/person.json"}'},
    ),
    "one choice": Case("--choices takes the answers to choose from, such as spam,ham", options="--choices spam,,spam"),
    "a schema and choices": Case("give only one", options="--schema s.json --choices a,b", files={"s.json": b"{}"}),
    "a negative count": Case("invalid value for '--reasks'", options="--reasks -1"),
    "no such picture": Case(
        "pictures.csv, line 3: cat.png cannot be read: No such file", options="--image {{f}} --prompt x", **PICTURES
    ),
    "a picture that is none": Case(
        "pictures.csv, line 2: page.png is not an image: it looks like an HTML page",
        options="--image page.png --prompt x --same-prompt",
        **PICTURES,
    ),
    "a picture beside messages": Case(
        "line 1: --image goes with a prompt; this row has messages",
        b'{"messages": [{"role": "user", "content": "x"}]}\n',
        "--image cat.png",
    ),
    "no such column for a picture": Case(
        "--image uses {{ photo }}, but the input has no column photo",
        run="in.csv -o out.csv --prompt x --image {{photo}}",
        files=CSV,
    ),
    # The output and the run file
    "no such folder": Case("the folder there does not exist", run="in.jsonl -o there/out.jsonl"),
    "the output is a folder": Case(".: is a directory; name a file in it", run="in.jsonl -o ."),
    "a workbook as output": Case("out.xlsx: workbooks are read, not written; write .csv", run="in.jsonl -o out.xlsx"),
    "the output is the input": Case("in.jsonl: is the input", run="in.jsonl -o ./in.jsonl"),
    "the output is the input by a link": Case("link.jsonl: is the input", run="in.jsonl -o link.jsonl"),
    "a folder that may not be written": Case("the folder locked is not writable", run="in.jsonl -o locked/out.jsonl"),
    "a file that may not be written": Case("locked.jsonl: is not writable", run="in.jsonl -o locked.jsonl"),
    "no folder for the run file": Case("there is no folder there to keep r in", options="--run-file there/r"),
    "a run file that is none": Case("is not a run file", options="--run-file other.txt", files={"other.txt": b"hello"}),
    # Limits and parameters
    "no requests": Case("--rpm is a number above 0", options="--rpm 0"),
    "rpm in words": Case("--rpm is a number above 0, such as 500, 10_000, 10k or 2M, not 'ten'", options="--rpm ten"),
    "no rows wanted": Case("invalid value for '--limit'", options="--limit 0"),
    "no seconds of silence": Case("between_bytes is a number above 0", options="--between-bytes 0"),
    "no seconds": Case("timeout is a number above 0", options="--timeout 0"),
    "a parameter without a value": Case("--param takes name=value", options="--param temperature"),
    "a parameter of the wrong type": Case("--param max_tokens takes a whole number", options="--param max_tokens=many"),
    "a parameter out of range": Case("--param max_tokens takes a whole number above 0", options="--param max_tokens=0"),
    "a parameter that is an option": Case("use --model instead", options="--param model=x"),
    "an unknown option": Case("no such option: --modle", options="--modle x"),
    "no port": Case("--metrics is a port from 1 to 65535, not 65536", options="--metrics 65536"),
    "a header that is none": Case("--header takes 'Name: value'", options="--header x"),
    "no such configuration": Case("nowhere.toml", options="--config nowhere.toml"),
    "a budget of nothing": Case("budget is a number above 0", options="--budget 0 --param max_tokens=5"),
    "a budget without a price": Case(
        "is not known, so a budget cannot be kept", options="--budget 1 --param max_tokens=5"
    ),
    "a row without a price": Case(
        "line 2: the price of mine/new is not known",
        b'{"prompt": "a", "model": "vllm/x"}\n{"prompt": "b", "model": "mine/new"}\n',
        "--budget 1 --config mine.toml",
        files={"mine.toml": b'[endpoints.mine]\nbase_url = "http://127.0.0.1:1/v1"\n'},
        server=False,
    ),
}
if importlib.util.find_spec("pyarrow") is None:
    missing = {"in.parquet": b"PAR1"}
    CASES["Parquet without pyarrow"] = Case("flatout[parquet]", run="in.parquet -o out.jsonl", files=missing)
    CASES["Parquet out without pyarrow"] = Case("flatout[parquet]", run="in.jsonl -o out.parquet")


def folder_for(case: Case, folder: Path) -> Path:
    """A folder with the case's files, and with what is not to be written."""
    folder.mkdir()
    for name, content in {"in.jsonl": case.input, **(case.files or {})}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "link.jsonl").symlink_to("in.jsonl")
    (folder / "locked").mkdir(mode=0o555)
    (folder / "locked.jsonl").touch(mode=0o444)
    return folder


class Refusal(NamedTuple):
    done: Done
    before: set[str]
    after: set[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def refusals(server: Provider, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refusal]:
    """Every case, each in a process that starts at once."""
    places = tmp_path_factory.mktemp("refused")

    def refused(case: Case) -> Refusal:
        folder = folder_for(case, places / str(id(case)))
        before = {path.name for path in folder.rglob("*")}
        options = f"{case.run} {case.options}".split()
        reach = server.options() if case.server and "-m" not in options else []
        done = run("run", *options, *reach, folder=folder, stdin=case.stdin, env={"TMPDIR": str(folder)})
        return Refusal(done, before, {path.name for path in folder.rglob("*")})

    with quick(obey_permissions) as run:
        return {name: refused(case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_in_one_sentence(name: str, refusals: dict[str, Refusal]) -> None:
    """A user would not know what to mend, and where."""
    done = refusals[name].done
    assert done.code == 2
    assert done.out == ""
    (sentence,) = done.err.splitlines()
    assert sentence.startswith("flatout: ")
    assert CASES[name].why in sentence


def test_nothing_is_sent_and_nothing_is_written(server: Provider, refusals: dict[str, Refusal]) -> None:
    """A refused command would cost money, or leave a file that stands in the way of the right one."""
    assert server.received == 0
    assert {
        name: refusal.after - refusal.before for name, refusal in refusals.items() if refusal.after > refusal.before
    } == {}


def test_permissions_can_be_tested(tmp_path: Path) -> None:
    """Two of the cases above would test nothing."""
    (tmp_path / "locked").mkdir(mode=0o555)
    touch = subprocess.run(["touch", "locked/x"], cwd=tmp_path, preexec_fn=obey_permissions, stderr=subprocess.PIPE)
    if os.getuid() == 0 and touch.returncode == 0:
        pytest.skip("this root cannot give up its rights")
    assert touch.returncode != 0


def test_a_closed_standard_input_is_said(server: Provider, tmp_path: Path) -> None:
    """A daemon's command would end in an internal error."""
    done = flatout("run", "-", "-o", "o.jsonl", *server.options(), folder=tmp_path, prepare=lambda: os.close(0))
    assert (done.code, done.err) == (2, "flatout: stdin: is closed\n")


def test_marks_and_line_ends_are_no_reason(server: Provider, tmp_path: Path) -> None:
    """Files from Windows would be refused, or their marks be sent."""
    (tmp_path / "in.csv").write_bytes(codecs.BOM_UTF8 + b"id,text\r\n1,one\r\n")
    done = flatout("run", "in.csv", "-o", "out.csv", "--prompt", "{{ text }}", *server.options(), folder=tmp_path)
    assert done.code == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[0].startswith("id,text,answer,")
