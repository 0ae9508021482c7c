"""What became of one call: an answer or a failure, and ``ok`` says which.

For type checkers `Result` is the union of `Answered` and `Failed`, so that ``if result.ok:`` tells them what there is.
When the program runs, it is one class: made at one price, pickled under one name, and known by its ``error`` alone for
what it is. `Answered` and `Failed` then are how a result can be: `isinstance` and `match` ask for its ``ok``.

Programs hold a hundred thousand results. So a result keeps two of its parts small, and makes them whole when they are
asked for: a prompt alone stands for its Call, and the waits are packed (`small_call`, `small_waits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, TypeAlias, cast

from msgspec import Struct, msgpack

from flatout.text.shown import beginning, dollars, shown

from .call import Call, CallLike
from .reply import OutputT, Reply, Usage
from .route import Leg

WIRE = frozenset({"connect", "first_byte", "body"})
"""The causes of waiting (see `flatout.events.WAITS`) with an attempt on the wire."""


def queued(waits: Mapping[str, float]) -> float:
    """Seconds in which no attempt was on the wire, of seconds by cause."""
    return sum((seconds for cause, seconds in waits.items() if cause not in WIRE), start=0.0)


class _Result(Struct, Generic[OutputT], frozen=True, kw_only=True):
    index: int
    id: str | None = None
    call: Call[Any] | None = None
    item: Any = None
    reply: Reply[OutputT] | None = None
    output: OutputT | None = None
    error: Exception | None = None
    attempts: int = 0
    cost: float | None = None
    elapsed: float = 0.0
    provider_seconds: float | None = None
    waits: Mapping[str, float] = {}
    trail: tuple[Leg, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def text(self) -> str | None:
        """The answer's text; None when the call failed, and for items of `Client.map` and texts of `Client.embed`."""
        return self.reply.text if self.reply is not None else None

    @property
    def queued_seconds(self) -> float:
        """Seconds in which no attempt was on the wire: the call waited for its turn, or before a retry."""
        return queued(self.waits)

    @property
    def cached(self) -> bool:
        """Whether the answer comes from a cache; ``reply.cached`` then says what it cost when it was asked."""
        return self.reply is not None and self.reply.cached is not None

    def unwrap(self) -> Any:
        """The output where one was asked for, else the text; the error of a failed call is raised."""
        if self.error is not None:
            raise self.error
        asked = self.call is not None and self.call.output is not None
        return self.output if asked or self.output is not None else self.text

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # any iterable is what rich wants
        yield "index", self.index
        if self.id is not None:
            yield "id", beginning(self.id)
        yield "ok", self.ok
        if self.error is not None:
            yield "error", beginning(self.error)
        elif self.reply is not None and self.reply.text:
            yield "text", beginning(self.reply.text)
        elif self.output is not None:
            yield "output", beginning(self.output)
        model = (self.reply and self.reply.model) or (self.call and self.call.model)
        if model is not None:
            yield "model", beginning(model)
        tokens = (self.reply.usage if self.reply is not None else Usage()).total_tokens
        if tokens is not None:
            yield "tokens", tokens
        if self.cost is not None:
            yield "cost", dollars(self.cost)

    def __repr__(self) -> str:
        return shown("Result", self.__rich_repr__())

    def _repr_html_(self) -> str:
        from flatout.text.html import table  # for notebooks only

        return table(self._texts(), self._facts())

    def _texts(self) -> Iterator[tuple[str, str]]:
        """For a notebook: what was asked, and what came of it."""
        asked = self.item if self.call is None else self.call.prompt
        if self.call is not None and self.call.messages:
            asked = self.call.messages[-1].get("content")
        yield "asked", _as_text(asked)
        if self.error is not None:
            yield type(self.error).__name__, str(self.error)
        elif self.reply is not None and self.reply.text:
            yield "answer", self.reply.text
        if self.output is not None:
            yield "output", _as_text(self.output)

    def _facts(self) -> Iterator[str]:
        """For a notebook: who answered, what it cost, and how long it took."""
        from flatout.text import figures

        asked = self.call.model if self.call is not None else None
        if model := (self.reply.model if self.reply is not None else None) or asked:
            yield model
        tokens = (self.reply.usage if self.reply is not None else Usage()).total_tokens
        if tokens is not None:
            yield figures.counted(tokens, "token")
        if self.attempts:
            yield "cost unknown" if self.cost is None else figures.dollars(self.cost)
        if self.cached:
            yield "from the cache"
        waited = f", {figures.duration(self.queued_seconds)} of it waiting" if self.queued_seconds >= 0.05 else ""
        yield f"{figures.duration(self.elapsed)}{waited}"
        if self.attempts > 1:
            yield figures.counted(self.attempts, "attempt")


if TYPE_CHECKING:
    # mypy narrows a result by `if result.ok:`, and calls what the other half lacks None. Pyright narrows by `is` and by
    # `isinstance`, and not by an attribute's truth. There what a half lacks is Any: `if result.ok: result.text.upper()`
    # passes, and so does a look that forgets to ask. Pyright takes the first of two aliases, mypy the one that is true.
    MYPY = False
    if not MYPY:
        _Nothing: TypeAlias = Any
    else:
        _Nothing: TypeAlias = None

    class Answered(_Result[OutputT], Generic[OutputT], frozen=True, kw_only=True):
        """A result that is an answer; see `Result`."""

        reply: Reply[OutputT]
        output: OutputT
        error: _Nothing = None

        @property
        def ok(self) -> Literal[True]: ...

        @property
        def text(self) -> str: ...

        def unwrap(self) -> OutputT: ...

    class Failed(_Result[Any], frozen=True, kw_only=True):
        """A result that is a failure; see `Result`."""

        reply: _Nothing = None
        output: _Nothing = None
        error: Exception

        @property
        def ok(self) -> Literal[False]: ...

        @property
        def text(self) -> _Nothing: ...

        def unwrap(self) -> NoReturn: ...

    Result: TypeAlias = Answered[OutputT] | Failed

    FieldsT = ParamSpec("FieldsT")

    def _as_either(made: Callable[FieldsT, object]) -> Callable[FieldsT, Result[Any]]: ...

    make_result = _as_either(_Result)

else:

    class Result(_Result[OutputT], Generic[OutputT], frozen=True, kw_only=True):
        """What became of one call: an answer or a named error, never both.

        ``unwrap()`` gives the output where one was asked for, else the text; it raises the error of a failed call.

        Attributes:
            ok: whether there is an answer.
            text: the answer's text; None when the call failed, and for `Client.map` and `Client.embed`.
            cached: whether the answer comes from a cache; ``reply.cached`` then says what it cost when it was asked.
            index: the call's place in the input, from 0.
            id: the call's id, if it had one.
            call: the call; None for a `Client.map` item.
            item: the item, for `Client.map`; None otherwise.
            reply: the provider's answer; None when the call failed (see ``error.reply`` for one that was unusable), and
                for `Client.map`.
            output: the validated object when ``output=`` was asked for (None where the model asked for tools instead);
                for `Client.map`, what the function returned.
            error: why there is no answer.
            attempts: how many times the call was tried.
            cost: US dollars for all attempts that reported usage, so 0 for a cached answer; None when the price or the
                usage is not known.
            elapsed: seconds from the call's entry to its end, queueing and retries included.
            provider_seconds: how long the last attempt took on the wire, from connecting to its end, also if it failed;
                with a hedge, the attempt that answered. None if no attempt was made (a cached answer, a call that was
                never sent), in a batch, and for `Client.map`, whose item may make many calls.
            queued_seconds: how long no attempt was on the wire: waiting for its turn, before a retry, or in a batch.
                For `Client.map`, the sum over all calls of the item, which may run side by side.
            waits: where those seconds went, by cause; see `flatout.events.WAITS`.
            trail: if the model is a `Route`: each target that was tried, why it was left, its tokens and its cost (see
                `flatout.values.route.Leg`); the last one answered, if there is an answer. Empty otherwise.
        """

        @property
        def call(self):
            kept = _kept_call(self)
            return Call(kept) if isinstance(kept, str) else kept

        @property
        def waits(self):
            kept = _kept_waits(self)
            return _unpacked(kept) if isinstance(kept, bytes) else kept

        def __eq__(self, other):
            if not isinstance(other, Result):
                return NotImplemented
            return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__)

    # The properties hide the fields of the same names, so these read them.
    _kept_call = _Result.call.__get__
    _kept_waits = _Result.waits.__get__

    make_result = Result  # a union has no constructor, so for type checkers it has another name

    class _Half(type):
        """One of the two that a result can be."""

        def __instancecheck__(cls, value):
            return isinstance(value, Result) and value.ok is cls._ok

        def __call__(cls, **fields):
            made = Result(**fields)
            if not isinstance(made, cls):
                raise TypeError(f"{cls.__name__} {'has no' if made.error else 'needs an'} error")
            return made

    class Answered(metaclass=_Half):
        """A `Result` that is an answer."""

        _ok = True

    class Failed(metaclass=_Half):
        """A `Result` that is a failure."""

        _ok = False


_packed = msgpack.Encoder().encode
_unpacked = msgpack.Decoder().decode


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def small_call(given: CallLike, call: Call[Any]) -> Call[Any]:
    """A call as `Result` keeps it: what was given, if that is a prompt alone. A Call takes 208 bytes."""
    return cast("Call[Any]", given) if isinstance(given, str) else call


def small_waits(waits: Mapping[str, float]) -> Mapping[str, float]:
    """Waits as `Result` keeps them: 70 bytes for two causes, where a dict takes 230."""
    return cast("Mapping[str, float]", _packed(waits))
