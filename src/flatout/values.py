"""The values that go in and come out: Call, Result, Limits, Endpoint; and the Reply of `flatout.reply`.

They are frozen msgspec structs: made in a fraction of a microsecond, compared by value, safe to share between
tasks. Durations are float seconds, money is US dollars, tokens and counts are int. What is not known is None,
never 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral
from types import UnionType
from typing import Any, Generic, Literal, _SpecialForm

from msgspec import Struct

from .errors import ConfigError
from .reply import Message as Message
from .reply import OutputT as OutputT
from .reply import Reply as Reply
from .reply import ToolCall as ToolCall
from .reply import Usage as Usage
from .secret import Reticent, Secret, veiled_url

OutputType = type[OutputT] | Mapping[str, Any] | UnionType | _SpecialForm
"""What ``output`` takes: a type (a model, a dataclass, a TypedDict, an Enum, a Literal …) or a JSON schema."""


class _CallOptions(Struct, Generic[OutputT], frozen=True, kw_only=True):
    """Everything of a Call that is given by name."""

    messages: Sequence[Message] | None = None
    system: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    logprobs: bool | int | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    output: OutputType[OutputT] | None = None
    tools: Sequence[Any] | None = None
    tool_choice: Any = None
    extra: Mapping[str, Any] | None = None
    timeout: float | None = None
    deadline: float | None = None
    reasks: int | None = None
    sample: int | None = None
    id: str | None = None
    metadata: Mapping[str, Any] | None = None


class Call(_CallOptions[OutputT], Generic[OutputT], frozen=True):
    """One call to a model: what the user wants, whatever the provider.

    Give ``prompt`` (a string) or ``messages`` (chat messages), not both.

    Args:
        prompt: the user's message.
        messages: a whole conversation, each ``{"role": …, "content": …}``.
        system: the system prompt; put before ``prompt`` or ``messages``.
        model: ``provider/model``; the client's model when None.
        max_tokens: the most tokens of answer, reasoning included where the provider counts it so.
        temperature, top_p, stop, seed, logprobs, reasoning_effort, service_tier: as providers define them.
        output: what the answer must be: a pydantic model, a dataclass, a TypedDict, an Enum, a Literal or another type
            that pydantic can describe, or a JSON schema.
        tools, tool_choice: tools that the model may ask for.
        extra: parameters that flatout does not know, sent as they are.
        timeout: seconds for one attempt; the client's when None.
        deadline: seconds for the whole call, queueing and retries included; the client's when None. They begin when the
            call is let in from the input, not when the input is handed over.
        reasks: how often the model may be asked again when its answer does not fit ``output`` or its arguments do not
            fit a tool, with what is wrong; the client's when None.
        sample: which of several samples of one prompt this is, from 0. Never sent; it tells the samples apart in run
            files and journals.
        id: your name for the call. It is data: never a path, never sent.
        metadata: anything of yours, handed back on the result. Never sent.
    """

    prompt: str | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            what = "neither" if self.prompt is None else "both"
            raise ConfigError(f"a call takes a prompt or messages; this one has {what}")
        texts: tuple[Any, ...] = (self.prompt, self.system, self.model)  # a dict's values may be of any type
        for name, text in zip(("prompt", "system", "model"), texts, strict=True):
            if text is not None and not isinstance(text, str):
                raise ConfigError(f"a {name} is a string, not {type(text).__name__}")
        if self.model is not None and not self.model.strip():
            raise ConfigError("the model's name is empty: write it as provider/model, or leave it out")
        messages: Any = self.messages
        if messages is not None and (isinstance(messages, str | bytes) or not isinstance(messages, Sequence)):
            raise ConfigError(f"messages are a list of dicts, not {type(messages).__name__}")
        if self.max_tokens is not None and not _is_count(self.max_tokens):
            raise ConfigError(f"max_tokens is a whole number above 0, not {self.max_tokens!r}")
        if self.extra is not None and not isinstance(self.extra, Mapping):
            raise ConfigError(f"extra is a dict of parameters by their names, not {type(self.extra).__name__}")
        for name in ("reasks", "sample"):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
                raise ConfigError(f"{name} is a whole number from 0 on, not {number!r}")
        for name in ("timeout", "deadline"):
            seconds = getattr(self, name)
            if seconds is not None and not is_positive(seconds):
                raise ConfigError(f"{name} is a number of seconds above 0, not {seconds!r}")

    @classmethod
    def of(cls, value: CallLike) -> Call[Any]:
        """Make a Call of a string, a dict or a Call.

        A dict's keys are the Call's own names; others go into ``extra``.

        Raises:
            ConfigError: the value is none of these, or makes no valid call.
        """
        if isinstance(value, Call):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise ConfigError(f"a call is a string, a dict or a Call, not {type(value).__name__}")
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, item in value.items():
            (known if key in _CALL_FIELDS else extra)[key] = item
        if "prompt" not in known and "messages" not in known:
            _refuse_slips(extra)
        if extra:
            given = known.get("extra") or {}
            if isinstance(given, Mapping):  # else the call itself refuses it
                known["extra"] = {**given, **extra}
        return cls(**known)

    def chat(self) -> list[Message]:
        """The conversation as one list of messages, the system prompt first."""
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        if self.messages is not None:
            messages.extend(self.messages)
        else:
            messages.append({"role": "user", "content": self.prompt})
        return messages


def _refuse_slips(names: Iterable[Any]) -> None:
    """Name what was probably meant to be a call's prompt or messages."""
    for name in names:
        close = get_close_matches(str(name), ("prompt", "messages"), n=1, cutoff=0.75)
        if close:
            raise ConfigError(f"a call takes a prompt or messages; did you mean {close[0]} by {name!r}?")


CallLike = str | Mapping[str, Any] | Call[Any]
"""What is accepted wherever a Call is."""

_CALL_FIELDS = frozenset(Call.__struct_fields__)


class Result(Struct, Generic[OutputT], frozen=True, kw_only=True):
    """What became of one call: an answer or a named error, never both.

    Attributes:
        index: the call's place in the input, from 0.
        id: the call's id, if it had one.
        call: the call; None for a `Client.map` item.
        item: the item, for `Client.map`; None otherwise.
        reply: the provider's answer; None when the call failed (see ``error.reply`` for one that was unusable).
        output: the validated object when ``output=`` was asked for; for `Client.map`, what the function returned.
        error: why there is no answer.
        attempts: how many times the call was tried.
        cost: US dollars for all attempts that reported usage; None when the price or the usage is not known.
        elapsed: seconds from the call's entry to its end, queueing and retries included.
        waits: where those seconds went, by cause; see `flatout.events.WAITS`.
    """

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
    waits: Mapping[str, float] = {}

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def text(self) -> str | None:
        """The answer's text; None when the call failed."""
        return self.reply.text if self.reply is not None else None


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a target allows. None means that it is not known.

    Args:
        rpm: requests per minute.
        tpm: tokens per minute, input and output together.
        itpm: input tokens per minute.
        otpm: output tokens per minute.
        rpd: requests per day.
        burst: seconds of each limit per minute that the provider takes at once when its bucket is full: 60 for a whole
            minute's calls, 1.0 for none ahead of their time. When None, as far ahead as its headers say; where they say
            nothing, up to two seconds are tried ahead, and never again once that was refused.
        concurrency: most requests in flight.
        adaptive: what to adapt where no limit is known: the ``"rate"`` (hosted providers) or the
            ``"concurrency"`` (servers of your own); chosen by the provider when None.
        shared: a name under which the processes of this machine share these limits.

    Raises:
        ConfigError: a limit is not a number above 0, ``concurrency`` is not whole, or ``shared`` is no name.
    """

    rpm: float | None = None
    tpm: float | None = None
    itpm: float | None = None
    otpm: float | None = None
    rpd: float | None = None
    burst: float | None = None
    concurrency: int | None = None
    adaptive: Literal["rate", "concurrency"] | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "itpm", "otpm", "rpd", "burst", "concurrency"):
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ConfigError(f"the limit {name} is a number above 0, not {value!r}")
        if self.concurrency is not None and not isinstance(self.concurrency, int):
            raise ConfigError(f"the limit concurrency is a whole number, not {self.concurrency!r}")
        if self.adaptive not in (None, "rate", "concurrency"):
            raise ConfigError(f"adaptive is 'rate' or 'concurrency', not {self.adaptive!r}")
        shared: Any = self.shared
        if shared is not None and not (isinstance(shared, str) and shared.strip()):
            raise ConfigError(f"shared is a name, such as 'openai', not {shared!r}")

    def over(self, base: Limits) -> Limits:
        """These limits, and ``base`` where these say nothing."""
        return Limits(
            **{f: v if (v := getattr(self, f)) is not None else getattr(base, f) for f in self.__struct_fields__}
        )


class Endpoint(Reticent, frozen=True, kw_only=True):
    """A server that answers calls: where it is, how to speak to it, whose key it takes.

    Args:
        name: the first part of ``name/model``.
        base_url: up to and including the version, such as ``https://api.openai.com/v1``.
        dialect: the wire format; ``openai`` (chat completions) unless the provider has its own.
        key_env: the environment variable that holds its key; None when it needs none.
        api_key: the key itself. Wins over ``key_env``.
        key_header: the header that carries the key: ``Authorization`` (with ``Bearer``) or another name.
        key_required: whether a call without a key is pointless.
        headers: sent with every request.
        limit_headers: the dialect of its rate-limit headers; "" when it sends none.
        reserves: how it charges tokens per minute: by ``usage``, by ``max_tokens`` on admission, or ``input`` alone.
        self_hosted: a server of one's own (vLLM, llama.cpp, Ollama): limited by concurrency, not by rate.
        max_tokens_field: the wire's name for ``max_tokens``.
        schema_mode: how it is asked for JSON: by a ``json_schema``, or by a ``json_object`` with the schema in the
            system prompt, where it takes no schema.
        query: sent with every URL (Azure's ``api-version``).
        limits: its limits, when known.
        system: the system prompt for calls that have none; for models that need one.
    """

    name: str
    base_url: str
    dialect: str = "openai"
    key_env: str | None = None
    api_key: Secret | None = None
    key_header: str = "Authorization"
    key_required: bool = True
    headers: Mapping[str, str] = {}
    limit_headers: str = ""
    reserves: Literal["usage", "max_tokens", "input"] = "usage"
    self_hosted: bool = False
    max_tokens_field: str = "max_tokens"
    schema_mode: Literal["json_schema", "json_object"] = "json_schema"
    query: Mapping[str, str] = {}
    limits: Limits = Limits()
    system: str | None = None


class Target(Struct, frozen=True):
    """Endpoint, key and model: what limits, stops and prices belong to."""

    endpoint: Endpoint
    model: str

    @property
    def name(self) -> str:
        """``endpoint/model``, for people."""
        return f"{self.endpoint.name}/{self.model}" if self.model else self.endpoint.name

    @property
    def key(self) -> str:
        """A name that tells two keys apart without showing either."""
        url, secret = self.endpoint.base_url, self.endpoint.api_key
        address = veiled_url(url)
        hidden = (secret.reveal() if secret else "") + (url if address != url else "")
        return f"{address} {self.model} {hashlib.sha256(hidden.encode()).hexdigest()[:8] if hidden else '-'}"


def _is_count(value: Any) -> bool:
    """Whether a value is a whole number above 0, of any integer type (and no bool)."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) > 0


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0 (and no bool)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
