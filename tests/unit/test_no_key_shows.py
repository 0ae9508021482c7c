"""No key in anything that a person or a tool prints: every error, in every way of printing it.

The provider of these tests repeats all that it was sent, in every encoding; the transport leaves the request in its
variables, and behind its own errors others that hold it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from rich.console import Console
from rich.pretty import pretty_repr
from rich.traceback import Traceback

import flatout
from flatout import Call, Client, ConfigError, errors
from flatout.cli import main
from flatout.config.file import load
from flatout.layer import Request, Response
from flatout.providers import codec_for
from flatout.providers.targets import Targets
from flatout.telemetry import trace_calls
from flatout.testing import run_virtual
from flatout.text.redact import redact
from tests.support.recorded_telemetry import Recorded

KEY = "canary/7f3a+9c1e=b5d2~Zq"
HEADER = "canary.header.55aa66bb"
QUERY = "canary.query.77cc88dd"
PASSWORD = "canary.password.99ee"
SECRETS = (KEY, HEADER, QUERY, PASSWORD)

OWN = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CallError)),
    key=lambda kind: kind.__name__,
)


def forms(secret: str) -> Iterator[str]:
    """What must not be found: the secret as it is, encoded, or in part."""
    yield from (secret, secret[:12], quote(secret, safe=""), quote(secret, safe="").lower())
    yield json.dumps(secret)[1:-1].replace("/", "\\/")
    yield base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]


def assert_clean(said: str, where: str = "") -> None:
    for secret in SECRETS:
        for form in forms(secret):
            assert form not in said, f"{where}: {form!r} in …{said[max(0, said.index(form) - 200) :][:500]}"


# -- ways of printing -------------------------------------------------------------------------------------------------


def with_locals(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def rich_with_locals(error: BaseException) -> str:
    console = Console(file=io.StringIO(), width=400)
    shown = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_length=1_000, locals_max_string=100_000
    )
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def logged(error: BaseException) -> str:
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s %r", (error, error), None)
    record.exc_info = (type(error), error, error.__traceback__)
    return logging.Formatter().format(record)


def everything_behind(error: BaseException) -> str:
    """All that a debugger could show: the errors behind it, hidden ones too, their variables, and what is in these."""
    said, seen, left = [], set(), [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        said.append(repr(each) + repr(vars(each)))
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if not frame.f_code.co_filename.startswith(str(Path(__file__).parent)):
                said += [inside(value) for value in frame.f_locals.values()]
        left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return "\n".join(said)


def inside(value: Any, depth: int = 1) -> str:
    """A value as a tree of attributes and items."""
    said = repr(value)
    if depth and not isinstance(value, type) and type(value).__module__.partition(".")[0] in ("flatout", "builtins"):
        if isinstance(value, Mapping):
            said += "".join(inside(item, depth - 1) for item in value.values()) if type(value) is dict else ""
        elif isinstance(value, list | tuple):
            said += "".join(inside(item, depth - 1) for item in value)
        else:
            said += "".join(inside(item, depth - 1) for item in getattr(value, "__dict__", {}).values())
    return said


def pickled(error: BaseException) -> str:
    try:
        return pickle.dumps(error).decode("latin-1")
    except Exception as refused:  # what cannot be pickled shows nothing
        return repr(refused)


WAYS: dict[str, Callable[[BaseException], str]] = {
    "str": str,
    "repr": repr,
    "traceback": lambda error: "".join(traceback.format_exception(error)),
    "traceback with locals": with_locals,
    "rich": pretty_repr,
    "rich attributes": lambda error: pretty_repr(vars(error)),
    "rich traceback with locals": rich_with_locals,
    "pprint": lambda error: pprint.pformat(vars(error)),
    "logging": logged,
    "json": lambda error: json.dumps(vars(error), default=repr),
    "everything behind": everything_behind,
    "pickle": pickled,
}


def print_it(error: BaseException, but: str = "") -> None:
    """Print an error in every way; of this file's own frames, which hold the keys of course, only the inner ones."""
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    for name, way in WAYS.items():
        if name != but:
            assert_clean(way(error), name)


# -- the provider and the transport -----------------------------------------------------------------------------------


def echo(request: Request) -> str:
    """All that was sent, as a gateway's error page would repeat it."""
    sent = [*request.headers.values(), request.url, KEY, HEADER, QUERY]
    said = [*sent, *(quote(text) for text in sent), *(base64.b64encode(text.encode()).decode() for text in sent)]
    return " ".join([*said, f"cut: {KEY[:14]}"])


class Telltale:
    """Answers with what it was sent; what it knows of the request stands in its variables."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self.answer = answer

    async def send(self, request: Request) -> Response:
        head = "\r\n".join(f"{name}: {value}" for name, value in request.headers.items())
        url = request.url
        try:
            raise ConnectionResetError(f"{url} {head}")
        except ConnectionResetError:
            answer = self.answer(request)
            if isinstance(answer, BaseException):
                raise answer from None
        await asyncio.sleep(0)
        return answer

    async def close(self) -> None:
        pass


TABLE = {
    "base_url": f"http://127.0.0.1:9/v1?key={QUERY}",
    "key_env": "CANARY",
    "headers": {"x-team-token": HEADER},
    "query": {"signature": QUERY},
}
CONFIG = {"endpoints": {"mine": TABLE}}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", KEY)


def client(answer: Callable[[Request], Any], **options: Any) -> Client:
    given = {"config": CONFIG, "retries": 0, "reasks": 0, "seed": 1, **options}
    return Client("mine/m", transport=Telltale(answer), **given)


def failure(answer: Callable[[Request], Any], call: Any = "hi", **options: Any) -> BaseException:
    async def ask() -> BaseException:
        async with client(answer, **options) as made:
            try:
                await made.call(call)
            except BaseException as error:
                return error
        raise AssertionError("it was answered")

    return run_virtual(ask())


def refusal(status: int, request: Request, code: str = "") -> Response:
    text = echo(request)
    body = json.dumps({"error": {"message": text, "code": code or text, "type": text, "param": text}})
    headers = {"content-type": "application/json", "x-echo": text, "x-request-id": text, "authorization": text}
    return Response(status, headers, body.encode())


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OWN)
def test_no_error_of_a_transport_shows_a_key(kind: type[errors.CallError]) -> None:
    """A traceback with variables, in a terminal or at an error tracker, would hold the user's key."""
    error = failure(lambda _: kind("it failed"))
    assert type(error) in (kind, errors.DeadlineExceeded)  # one that was throttled waits for ever
    print_it(error)


@pytest.mark.parametrize("kind", [RuntimeError, OSError, TypeError, ExceptionGroup])
def test_no_defect_shows_a_key_and_it_still_says_where_it_is(kind: type[Exception]) -> None:
    """A defect in the HTTP client would show the key; or nobody could find the defect."""

    def answer(_: Request) -> Exception:
        return kind("odd", [ValueError()]) if kind is ExceptionGroup else kind("odd")  # type: ignore[call-arg]

    error = failure(answer)
    assert type(error) is kind
    assert "in send" in "".join(traceback.format_exception(error))
    print_it(error)


STATUSES = (301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529)
CODES = ("insufficient_quota", "context_length_exceeded", "content_filter")
USUAL = (400, 429, 500)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, "") for status in STATUSES),
        *product(USUAL, CODES),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in product(sorted({*STATUSES} - {*USUAL}), CODES)),
    ],
)
def test_no_refusal_shows_a_key(status: int, code: str) -> None:
    """A gateway that repeats the request in its error page would put the key into every log."""
    print_it(failure(lambda request: refusal(status, request, code)))


@pytest.mark.parametrize("finish", ["length", "content_filter", "stop"])
@pytest.mark.parametrize("text", ["", "no JSON"])
def test_no_unusable_answer_shows_a_key(finish: str, text: str) -> None:
    """An answer that fits no schema is kept in its error, with the headers that it came with."""

    def answer(request: Request) -> Response:
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
        headers = {"x-echo": echo(request), "set-cookie": echo(request)}
        return Response(200, headers, json.dumps({"choices": [choice], "echo": echo(request)}).encode())

    # The answer itself is the user's, as it came. It shows nothing of that, but a pickle is all of it.
    print_it(failure(answer, Call("hi", output={"type": "object"})), but="pickle")


@pytest.mark.parametrize("body", [b"no JSON ", b'{"choices": "', b"<html>"])
def test_no_broken_answer_shows_a_key(body: bytes) -> None:
    """A proxy's page in place of an answer would be quoted with the key in it."""
    print_it(failure(lambda request: Response(200, {}, body + echo(request).encode())))


@pytest.mark.parametrize("bound", [{"timeout": 0.01}, {"deadline": 0.01}, {"first_byte": 0.01}])
def test_no_timeout_shows_a_key(bound: dict[str, float]) -> None:
    """What was cancelled for taking too long would be chained behind the error, with the request in its variables."""

    class Slow(Telltale):
        async def send(self, request: Request) -> Response:
            head = dict(request.headers)
            await asyncio.sleep(1_000)
            raise AssertionError(head)

        def stream(self, request: Request) -> Any:
            from contextlib import asynccontextmanager

            @asynccontextmanager
            async def answer() -> Any:
                yield await self.send(request)

            return answer()

    async def ask() -> BaseException:
        async with Client("mine/m", transport=Slow(str), config=CONFIG, retries=0, **bound) as made:
            try:
                await made.call("hi")
            except BaseException as error:
                return error
        raise AssertionError("it was answered")

    print_it(run_virtual(ask()))


BAD = f"{KEY}\n"


@pytest.mark.parametrize(
    "options",
    [
        {"model": "opnai/m", "api_key": KEY},
        {"model": "mine/m", "api_key": f"{KEY}\n{KEY}"},
        {"model": "mine/m", "api_key": KEY, "headers": {"authorization": f"Bearer {KEY}\nx"}},
        {"model": "mine/m", "headers": {"authorization": KEY}, "retries": -1},
        {"model": "mine/m", "api_key": KEY, "limits": 5},
        {"model": "m", "api_key": KEY, "base_url": f"http://me:{PASSWORD}@host/v1"},
        {"model": "m", "api_key": KEY, "base_url": f"ftp://host/v1?key={QUERY}"},
        {"model": "bad/m"},
        {"model": "bad/m", "headers": {"x-api-key": HEADER}},
    ],
)
@pytest.mark.parametrize("make", [Client, lambda model, **options: flatout.run(["hi"], model, **options)])
def test_no_constructor_that_raises_shows_a_key(
    make: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo in the model's name would show the key: the arguments are variables of the constructor."""
    monkeypatch.setenv("BAD", f"{KEY}\n{KEY}")
    endpoints = {"mine": TABLE, "bad": {"base_url": "http://127.0.0.1:9/v1", "key_env": "BAD"}}
    with pytest.raises(ConfigError) as caught:
        make(**options, config=load({"endpoints": endpoints}))
    print_it(caught.value)


def test_what_is_half_made_can_be_printed() -> None:
    """The traceback of a refused option would end in another error."""
    from flatout.local import LocalServer

    for kind in (Client, LocalServer):
        assert "not made" in repr(kind.__new__(kind))


# -- values -----------------------------------------------------------------------------------------------------------


def test_no_value_shows_a_key() -> None:
    """A target in a log line, or in a debugger, would show its key."""
    config = load(CONFIG)
    made = Targets(
        model="mine/m", base_url=None, api_key=None, headers={"x-api-key": HEADER}, limits=None, config=config
    )
    target = made.target("mine/m")
    codec = codec_for(target)
    request = codec.encode(Call("hi"))
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert QUERY in request.url
    whole = Client("mine/m", config=config, api_key=KEY, headers={"x-api-key": HEADER})
    told = Response(200, {"x": KEY}, KEY.encode())
    reply = flatout.Reply(text="hi", body=KEY.encode(), headers={"x": KEY}, native=KEY.encode())
    for value in (config, made, target, target.endpoint, target.endpoint.api_key, codec, request, whole, told, reply):
        for way in (repr, str, pretty_repr, pprint.pformat, inside):
            assert_clean(way(value), f"{way} of {type(value)}")
    for value in (target.endpoint, config.endpoints["mine"]):
        fields = {name: item for name, item in msgspec.structs.asdict(value).items() if name != "base_url"}
        assert_clean(repr(fields) + pretty_repr(fields) + json.dumps(fields, default=repr))


@pytest.mark.parametrize("encode", [pickle.dumps, msgspec.json.encode, msgspec.to_builtins, json.dumps])
def test_what_holds_a_key_is_not_encoded(encode: Callable[[Any], Any]) -> None:
    """A key would be written into a queue, a cache or a log by those who encode everything."""
    endpoint = (
        Targets(model="mine/m", base_url=None, api_key=None, headers=None, limits=None, config=load(CONFIG))
        .target("mine/m")
        .endpoint
    )
    for value in (endpoint, endpoint.headers, endpoint.api_key, codec_for(flatout.values.Target(endpoint, "m"))):
        with pytest.raises(TypeError):
            encode(value)


# -- what is written --------------------------------------------------------------------------------------------------


def test_no_run_file_and_nothing_that_is_shown_of_it_holds_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run file is kept and passed on: the key in a provider's message would go with it."""
    monkeypatch.chdir(tmp_path)
    statuses = iter([400, 401, 404, 413, 422])

    async def run() -> None:
        async with client(lambda request: refusal(next(statuses), request)) as made:
            calls = [Call(f"call {n}", extra={"service_password": PASSWORD}) for n in range(5)]
            for call in calls:
                [result] = await made.gather([call], store=f"{call.prompt}.flatout")
                assert not result.ok
                assert_clean(repr(msgspec.structs.replace(result, call=None)) + pretty_repr(result.error))

    asyncio.run(run())
    for path in tmp_path.iterdir():
        assert_clean(path.read_bytes().decode("latin-1"), path.name)
    for path in tmp_path.glob("*.flatout"):
        for command in (["status"], ["status", "--json"], ["trace"], ["trace", "--json"]):
            assert main([command[0], path.name, *command[1:]]) == 0
        main(["trace", path.name, "1"])
        main(["trace", path.name, "1", "--json"])
        assert main(["export", path.name, "-o", f"{path.name}.csv"]) == 0
        assert_clean(Path(f"{path.name}.csv").read_text())
    said = capsys.readouterr()
    assert_clean(said.out + said.err)


@pytest.mark.parametrize("content", [True, False])
def test_no_trace_holds_a_key(content: bool) -> None:
    """Traces are sent to others: the key in a provider's message would go with them."""
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
    recorded = Recorded()

    async def run() -> None:
        async with client(lambda request: refusal(400, request)) as made:
            trace_calls(made, tracer_provider=recorded.provider, content=content)
            await made.result("hi")

    asyncio.run(run())
    assert recorded.spans
    assert_clean(recorded.dump())
    assert_clean(encoder.encode_spans(recorded.spans).SerializeToString().decode("latin-1"))


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--otlp", f"http://me:{PASSWORD}@host:4318"], "host:4318"),
        ([f"--otlp=http://me:{PASSWORD}@host:4318/x?api-key={QUERY}"], "host:4318/x"),
        (["--base-url", f"http://host/v1?key={QUERY}&api-version=1"], "api-version=1"),
        (["--image", f"https://host/a.png?signature={QUERY}"], "a.png"),
        (["--param", f"service_password={PASSWORD}", "--param", "max_tokens=60"], "max_tokens=60"),
        ([f'--param=headers={{"Authorization": "{KEY}", "x": 1}}'], '"x": 1'),
        (["--header", f"x-team: {HEADER}"], "x-team"),
        (["--prompt", f"log in at http://me:{PASSWORD}@host/ now"], "host/ now"),
    ],
)
def test_the_command_that_a_run_file_keeps_holds_no_key(arguments: list[str], kept: str) -> None:
    """``flatout status`` would show the collector's password to whoever is sent the run file."""
    from flatout.cli.parse import command_line

    shown = command_line(["run", "in.jsonl", *arguments, "--fresh"])
    assert_clean(shown)
    assert kept in shown
    assert "--fresh" not in shown


def test_what_needs_no_veil_in_a_command_stays() -> None:
    """The command that a user is told to type again would be another one."""
    from flatout.cli.parse import command_line

    given = ["run", "a@b/in.csv", "--prompt", "see http://x.org/?q=1 or mail me@x.org", "--param", "stop=[1, 2]"]
    assert command_line(given) == (
        "flatout run a@b/in.csv --prompt 'see http://x.org/?q=1 or mail me@x.org' --param 'stop=[1, 2]'"
    )


def test_a_password_in_an_address_is_taken_out_of_any_text() -> None:
    """An error that quotes a proxy's or a collector's address would show its password."""
    assert redact(f"no connection to http://me:{PASSWORD}@host:1/x") == "no connection to http://me:…@host:1/x"
    assert (
        redact("http://host:80/a@b http://[::1]:80/ mail me@host") == "http://host:80/a@b http://[::1]:80/ mail me@host"
    )
