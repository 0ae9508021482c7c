"""What to do about a failure.

An error's class says what happened. Only this module says what to do: retry, slow down, wait out an overload, stop the
whole target, or give up on the call. The facts behind each choice come from the providers' documentation and captured
traffic. Tests check the table row by row.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from flatout import errors
from flatout.errors import CallError

T = TypeVar("T")

UNKNOWN_MODEL = frozenset(
    {"model_not_found", "model_not_available", "invalid_model", "unknown_model", "deploymentnotfound"}
)
"""Codes, in lower case, for a model that does not exist or is not open to this key."""

WRONG_PATH = "path_not_found"
"""The code of an `InvalidRequest` whose path does not exist on the server."""

UNKNOWN_HOST = "unknown_host"
"""The code of a `ConnectError` whose host name is unknown."""

CERTIFICATE = "certificate"
"""The code of a `ConnectError` whose server showed a certificate that is not trusted."""

PROXY_IGNORED = "proxy_ignored"
"""The code of a `ConnectError` for which flatout did not use the proxy that the environment names."""

PROXY_REFUSED = "proxy_refused"
"""The code of the error if a proxy opens no tunnel to the host."""

OPEN_FILES = "open_files"
"""The code of a `ConnectError` because this process may open no more files."""

CONNECTION_LOST = "connection_lost"
"""The code of a `ProtocolError` whose connection ended before the answer."""


class Decision(Enum):
    """What to do about a failed attempt."""

    RETRY = "retry"
    """Try again after a backoff; costs one of the call's attempts."""
    THROTTLE = "throttle"
    """Cut the rate and try again; costs time, up to the deadline, but no attempt."""
    OVERLOADED = "overloaded"
    """Back off for longer and try again; what is known of the limits stays."""
    STOP_TARGET = "stop_target"
    """Final for every call to this target: stop the target and say so."""
    FAIL = "fail"
    """Final for this call alone."""


_DECISIONS: dict[type[CallError], Decision] = {
    errors.RateLimited: Decision.THROTTLE,
    errors.Overloaded: Decision.OVERLOADED,
    errors.QuotaExhausted: Decision.STOP_TARGET,
    errors.AuthenticationError: Decision.STOP_TARGET,
    errors.ServerError: Decision.RETRY,
    errors.TransportError: Decision.RETRY,
    errors.OutputError: Decision.RETRY,
    errors.Truncated: Decision.FAIL,  # it would be cut off again
    errors.SchemaMismatch: Decision.FAIL,  # the model has to be told what is wrong; see `reask`
    errors.GuardrailTripped: Decision.FAIL,
    errors.ProviderError: Decision.FAIL,
    errors.CallError: Decision.FAIL,
}
"""By class. The nearest class among the error's ancestors counts."""


def decide(error: CallError) -> Decision:
    """What to do about a failed attempt.

    The provider's ``x-should-retry`` wins over the class, with one exception: a stopped target stays stopped, because a
    retry does not mend a wrong key or an empty account.
    """
    usual = _usual(error)
    if usual is Decision.STOP_TARGET or error.should_retry is None:
        return usual
    if not error.should_retry:
        return Decision.FAIL
    return Decision.RETRY if usual is Decision.FAIL else usual


def _usual(error: CallError) -> Decision:
    if isinstance(error, errors.QuotaExhausted) and error.status == 402 and error.retry_after is not None:
        return Decision.RETRY  # OpenRouter: other calls in flight reserve the credit; without Retry-After it is final
    if is_wrong_path(error) or _is_unknown_model(error):
        return Decision.STOP_TARGET
    if _is_redirect(error):
        return Decision.FAIL  # the address is wrong and stays wrong
    return _nearest(_DECISIONS, type(error))


def is_wrong_path(error: Exception) -> bool:
    """Whether the server has nothing at the request's path: the base URL is wrong, not the request."""
    return isinstance(error, errors.InvalidRequest) and error.code == WRONG_PATH


def _is_unknown_model(error: CallError) -> bool:
    return isinstance(error, errors.InvalidRequest) and (error.code or "").lower() in UNKNOWN_MODEL


def _is_redirect(error: CallError) -> bool:
    return isinstance(error, errors.ProtocolError) and error.status is not None and 300 <= error.status < 400


def may_have_billed(error: CallError) -> bool:
    """Whether the provider may have run the failed attempt, and charge for it, although there is no answer.

    No provider honours an idempotency key on inference, so every doubtful case counts as yes.
    """
    if error.reply is not None:
        return True
    if isinstance(error, errors.ConnectError) or _is_redirect(error):
        return False
    if isinstance(error, errors.DeadlineExceeded):
        return error.attempts > 0
    return isinstance(error, errors.TransportError | errors.OutputError | errors.ServerError)


class Sign(Enum):
    """What a failed attempt says of its target."""

    ALIVE = "alive"
    """The target works: it refused this one call for its content, or sent an answer that cannot be used."""
    NOTHING = "nothing"
    """Nothing: the call was not sent, or was refused for our speed."""
    DOUBTFUL = "doubtful"
    """The target failed, or this call made it fail. A slow call may wait there behind others, or be too long itself."""
    DOWN = "down"
    """The target failed, whatever the call."""
    CLOSED = "closed"
    """The target refuses every call."""


_GATEWAY = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses by which a gateway, or the server itself, says that no server is there to answer."""


def sign(error: CallError) -> Sign:
    """What a failed attempt says of its target."""
    if _usual(error) is Decision.STOP_TARGET:
        return Sign.CLOSED
    if isinstance(error, errors.AttemptTimeout):
        return Sign.DOUBTFUL
    if isinstance(error, errors.ConnectError):
        ours = error.should_retry is False or error.code == OPEN_FILES
        return Sign.NOTHING if ours else Sign.DOWN
    if isinstance(error, errors.Overloaded):
        return Sign.DOWN
    if _is_redirect(error) or isinstance(error, errors.OutputError):
        return Sign.ALIVE
    if isinstance(error, errors.ServerError | errors.TransportError):
        return Sign.DOWN if error.status in _GATEWAY else Sign.DOUBTFUL
    if isinstance(error, errors.RateLimited | errors.QuotaExhausted) or error.status is None:
        return Sign.NOTHING
    return Sign.ALIVE


class Repeats:
    """Notices when one call gets the same unusable answer again and again. Each of them costs money.

    One instance per call.

    Args:
        most: equal answers that are final.
    """

    __slots__ = ("_count", "_last", "_most")

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self._last: tuple[object, ...] | None = None
        self._count = 0

    def final(self, error: CallError) -> bool:
        """Note a failure. Returns True if it is the same answer for the ``most``-th time."""
        if not isinstance(error, errors.OutputError):
            return False
        mark = type(error), error.reply.text if error.reply is not None else str(error)
        self._count = self._count + 1 if mark == self._last else 1
        self._last = mark
        return self._count >= self._most


_MAX_TOKENS = "max_tokens (--param max_tokens=…)"

_ADVICE: dict[type[CallError], str] = {
    errors.ConnectError: "check the address, the network and any proxy; is the server running?",
    errors.AttemptTimeout: f"raise timeout= (--timeout), or ask for shorter answers with {_MAX_TOKENS}",
    errors.ProtocolError: "run again; if all calls fail, base_url must point at the API and end with /v1 or the like",
    errors.TransportError: "run again: the connection failed, not the call",
    errors.RateLimited: "state your limits (rpm, tpm) so that flatout keeps below them, or raise the deadline",
    errors.QuotaExhausted: "top up the account or raise its spending limit, then run again to resume",
    errors.Overloaded: "the provider has no capacity: run again later, or take another model",
    errors.ServerError: "run again later; if it stays, quote the request id to the provider's support",
    errors.AuthenticationError: "check the key, the variable that holds it, and that it may use this model",
    errors.InvalidRequest: "the request itself is wrong: read the message, and correct the row or the parameter",
    errors.ContextTooLong: f"shorten the prompt, lower {_MAX_TOKENS}, or take a model with a larger context",
    errors.ContentFiltered: "the provider's filter stopped it: rephrase the prompt, or take another model",
    errors.Refused: "the model declined: rephrase the prompt, or take another model",
    errors.Truncated: f"raise {_MAX_TOKENS}; reasoning counts towards it",
    errors.EmptyAnswer: f"raise {_MAX_TOKENS} if the model reasons first; else rephrase the prompt",
    errors.SchemaMismatch: "make the schema simpler, say in the prompt what it wants, or take a stronger model",
    errors.GuardrailTripped: "a guardrail of yours stopped it: look at the answer, or at the guardrail",
    errors.BudgetExceeded: f"raise the budget, or set a lower {_MAX_TOKENS}; then run again to resume",
    errors.CircuitOpen: "mend what stopped it, then run again to resume",
    errors.DeadlineExceeded: "raise deadline= (--deadline), or send fewer calls at once",
    errors.Exited: "see what the function, or something that it calls, ended the program for",
    errors.Skipped: "nothing, if you meant it; --retry-failed asks it again",
    errors.UsageLimitReached: "look at the trace for what went round in circles, or raise that one of the limits",
    errors.StepUnknown: "find out whether it took effect; then retry_failed, with an approve hook that answers",
    errors.CallError: "read the message",
}

_MODEL_ADVICE = "check the model's name, and that your account may use it"
_PATH_ADVICE = "check base_url: it must point at the API itself and end with its version, such as /v1"

_CODE_ADVICE = {
    "first_byte": "raise first_byte= (--first-byte)",
    "between_bytes": "raise between_bytes= (--between-bytes)",
    CERTIFICATE: "name your proxy's or company's own certificate in SSL_CERT_FILE; if there is none, check the address",
    PROXY_IGNORED: "pass trust_env=True (--trust-env) to use the proxy that the environment names",
    PROXY_REFUSED: "check the proxy's address, user and password, and whether it may connect to this host",
    OPEN_FILES: "raise the limit on open files (ulimit -n), or keep fewer calls in flight (concurrency)",
    CONNECTION_LOST: "run again: the connection failed, not the call; if it stays, keep fewer calls in flight",
}
"""By the code of a `TransportError`, where the code says more than the class."""


def advice(error: CallError | type[CallError]) -> str:
    """What a user can do about an error, or a class of errors, in one line."""
    if isinstance(error, type):
        return _nearest(_ADVICE, error)
    if is_wrong_path(error):
        return _PATH_ADVICE
    if _is_unknown_model(error):
        return _MODEL_ADVICE
    if isinstance(error, errors.TransportError) and error.code in _CODE_ADVICE:
        return _CODE_ADVICE[error.code]
    return _nearest(_ADVICE, type(error))


def advice_on(name: str) -> str:
    """What to do about a class of errors, by its name in a run file. Such a name may be any text."""
    kind = getattr(errors, name, None)
    return advice(kind) if isinstance(kind, type) and issubclass(kind, CallError) else ""


def _nearest(table: dict[type[CallError], T], kind: type[CallError]) -> T:
    return next(table[base] for base in kind.__mro__ if base in table)
