"""One call to a model: what the user wants, whatever the provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Generic, _SpecialForm

from msgspec import Struct
from msgspec.structs import force_setattr

from flatout.errors import ConfigError

from .checks import is_count, is_positive
from .reply import Message, OutputT

OutputType = type[OutputT] | Mapping[str, Any] | UnionType | _SpecialForm
"""What ``output`` takes: a type (a model, a dataclass, a TypedDict, an Enum, a Literal …) or a JSON schema."""


class _CallOptions(Struct, Generic[OutputT], frozen=True, kw_only=True, repr_omit_defaults=True):
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
        model: ``provider/model``, or a `Route`; the client's model when None.
        max_tokens: the most tokens of answer, reasoning included where the provider counts it so.
        temperature: as the provider defines it, and so are the six that follow.
        top_p: the share of likely tokens to choose from.
        stop: where the answer ends, as one text or several.
        seed: makes answers repeatable, as far as the provider can.
        logprobs: whether to tell the tokens' probabilities; for some providers how many.
        reasoning_effort: how much a reasoning model thinks: ``low``, ``medium``, ``high``, or what the provider has.
        service_tier: such as ``flex`` or ``priority``; see https://flatout.github.io/flatout/budgets/.
        output: what the answer must be: a pydantic model, a dataclass, a TypedDict, an Enum, a Literal or another type
            that pydantic can describe, or a JSON schema.
        tools: functions or dicts that the model may ask for; see https://flatout.github.io/flatout/tools/.
        tool_choice: ``auto``, ``required``, ``none``, or the one that it must ask for.
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
        if self.prompt is not None:
            _check_text("prompt", self.prompt)
        if self.system is not None:
            _check_text("system", self.system)
        if self.model is not None:
            _check_text("model", self.model)
            if type(self.model) is not str:  # a Route, whose text says all of it; JSON has no other texts than str
                force_setattr(self, "model", str(self.model))
            if not self.model.strip():
                raise ConfigError("the model's name is empty: write it as provider/model, or leave it out")
        messages: Any = self.messages
        if messages is not None and (isinstance(messages, str | bytes) or not isinstance(messages, Sequence)):
            raise ConfigError(f"messages are a list of dicts, not {type(messages).__name__}")
        if self.extra is not None and not isinstance(self.extra, Mapping):
            raise ConfigError(f"extra is a dict of parameters by their names, not {type(self.extra).__name__}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.max_tokens is not None and not is_count(self.max_tokens):
            raise ConfigError(f"max_tokens is a whole number above 0, not {self.max_tokens!r}")
        if self.reasks is not None:
            _check_number("reasks", self.reasks)
        if self.sample is not None:
            _check_number("sample", self.sample)
        if self.timeout is not None:
            _check_seconds("timeout", self.timeout)
        if self.deadline is not None:
            _check_seconds("deadline", self.deadline)

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
        if isinstance(value, ConfigError):  # in the place of a call that could not be made
            raise value
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


def _check_text(name: str, text: Any) -> None:  # a dict's values may be of any type
    if not isinstance(text, str):
        raise ConfigError(f"a {name} is a string, not {type(text).__name__}")


def _check_number(name: str, number: Any) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ConfigError(f"{name} is a whole number from 0 on, not {number!r}")


def _check_seconds(name: str, seconds: Any) -> None:
    if not is_positive(seconds):
        raise ConfigError(f"{name} is a number of seconds above 0, not {seconds!r}")


def _refuse_slips(names: Iterable[Any]) -> None:
    """Name what was probably meant to be a call's prompt or messages."""
    for name in names:
        close = get_close_matches(str(name), ("prompt", "messages"), n=1, cutoff=0.75)
        if close:
            raise ConfigError(f"a call takes a prompt or messages; did you mean {close[0]} by {name!r}?")


CallLike = str | Mapping[str, Any] | Call[Any]
"""What is accepted wherever a Call is."""

_CALL_FIELDS = frozenset(Call.__struct_fields__)
