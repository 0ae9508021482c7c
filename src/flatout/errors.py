"""Every error that flatout raises, and what each one means.

The tree, outermost first::

    FlatoutError
    ├ ConfigError (also ValueError)     wrong options or input; nothing was sent
    ├ CallError                         one call has no answer
    │ ├ TransportError                  no whole HTTP answer arrived
    │ │ ├ ConnectError                  no connection: refused, unreachable, DNS, TLS
    │ │ ├ AttemptTimeout                one attempt took longer than its timeout
    │ │ └ ProtocolError                 an answer arrived, but broken: cut off, no JSON, a redirect
    │ ├ ProviderError                   the provider answered with an error
    │ │ ├ RateLimited                   too fast; go slower
    │ │ ├ QuotaExhausted                money or the day's quota is used up; waiting seconds does not help
    │ │ ├ Overloaded                    the provider has no capacity now (503, 529)
    │ │ ├ ServerError                   the provider failed (other 5xx)
    │ │ ├ AuthenticationError           the key is missing, wrong or not allowed
    │ │ ├ InvalidRequest                this request can never succeed (400, 404, 413, 422)
    │ │ ├ ContextTooLong                the prompt is larger than the model's context
    │ │ ├ ContentFiltered               the provider's filter stopped the prompt or the answer
    │ │ └ Refused                       the model declined to answer
    │ ├ OutputError                     an answer arrived and was paid for, but cannot be used
    │ │ ├ Truncated                     cut off at the token limit
    │ │ ├ EmptyAnswer                   no text and no tool call
    │ │ ├ SchemaMismatch                not what the output schema asks for
    │ │ └ GuardrailTripped              a guardrail said stop
    │ ├ NotSent                         flatout held the call back
    │ │ ├ BudgetExceeded                it might cost more than the budget has left
    │ │ └ CircuitOpen                   its server is stopped or dead
    │ ├ DeadlineExceeded                the whole call's deadline passed
    │ ├ Exited                          one of the user's functions asked the program to end
    │ ├ Skipped                         somebody skipped the row while the run went
    │ ├ UsageLimitReached               an agent's run reached one of its limits
    │ └ StepUnknown                     a step with side effects began before a crash; its outcome is unknown
    └ StoreError                        the run file
      ├ RunLocked                       another process holds it
      ├ RunMismatch                     it belongs to another job
      └ RunDamaged                      it is not a readable run file

A class says what happened. `flatout.policies.failures.decision` decides what to do about it: retry, throttle, stop
the target, or fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .values.limits import Limits
    from .values.reply import Reply

BODY_CAP = 2_000
"""Characters of a provider's error body that an error keeps."""


class FlatoutError(Exception):
    """Base of everything that flatout raises on purpose.

    Attributes:
        outcome: the `flatout.agents.Outcome` so far, with its trace, if the error ended an agent's run; else None.
    """

    outcome: Any = None


class ConfigError(FlatoutError, ValueError):
    """Wrong options, configuration or input. Raised before anything is sent.

    What to do:
        Correct what the message names. It says what was given and, if flatout can tell, what was probably meant.
    """


class CallError(FlatoutError):
    """One call has no usable answer.

    Attributes:
        attempts: how many attempts were made in all; 0 when nothing was sent.
        status: the HTTP status of the last answer, if there was one.
        request_id: the provider's id for the last request, to quote to their support.
        retry_after: seconds that the provider asked to wait, if it did.
        body: the provider's error body, redacted and cut to 2,000 characters.
        code: the provider's own error code, such as ``insufficient_quota``.
        should_retry: the provider's ``x-should-retry``, when it sent one.
        headers: the answer's headers (lower-case names); secrets are never among them.
        reply: the decoded answer behind an error on a 200 (truncated, refused …): it was paid for.
        limits: the limits that a rate-limit refusal names, if it names any.
    """

    def __init__(
        self,
        message: str,
        *,
        attempts: int = 0,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str | None = None,
        code: str | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
        reply: Reply | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        self.body: str | None = body[:BODY_CAP] if body is not None else None
        self.code = code
        self.should_retry = should_retry
        self.headers = headers
        self.reply = reply
        self.limits = limits


class TransportError(CallError):
    """No complete HTTP answer arrived. The provider may still have executed the call, and billed it."""


class ConnectError(TransportError):
    """No connection could be made: refused, unreachable, unknown host, TLS failure. Nothing was billed.

    What to do:
        Check the address (`base_url`) and the network, and whether you need a proxy or a certificate of your own. The
        message says which of them it was. flatout has waited for the server as long as `give_up` allows.
    """


class AttemptTimeout(TransportError):
    """One attempt took longer than its ``timeout``.

    What to do:
        Raise `timeout`, or lower `max_tokens`: long answers take long. If a server falls silent, `first_byte` and
        `between_bytes` notice it sooner.
    """


class ProtocolError(TransportError):
    """The answer was broken: closed in the middle, malformed, oversized, or a redirect (never followed).

    What to do:
        Try again later, and check for a proxy or gateway that cuts answers off. A redirect means that `base_url` is not
        the address of the API itself.
    """


class ProviderError(CallError):
    """The provider answered with an error."""


class RateLimited(ProviderError):
    """The provider refused the request because calls came too fast (429).

    What to do:
        Nothing, as a rule: flatout slows down and tries again until the `deadline`. If this error remains, raise
        the deadline, or give your real limits (`Limits`): others may use the same key.
    """


class QuotaExhausted(ProviderError):
    """Money or a long quota (a day's, a month's) is used up. Every other call to the target would fail too.

    What to do:
        Add credit or raise the quota at the provider, or wait for it with `wait_for_quota`. With a run file, run the
        same command again afterwards.
    """


class Overloaded(ProviderError):
    """The provider has no capacity now (503, 529; in its flex tier 429, 498). No limit of yours is hit, nothing billed.

    What to do:
        Run the calls again later. A longer `deadline` lets flatout wait for the provider.
    """


class ServerError(ProviderError):
    """The provider failed (a 5xx, or an error without a better class).

    What to do:
        The message says whether other calls were answered meanwhile. If they were, the cause is this call: change it,
        or report it with `request_id`. If not, run it again later.
    """


class AuthenticationError(ProviderError):
    """The key is missing, wrong, or not allowed to use this model (401, 403).

    What to do:
        Set the variable that the message names to a valid key, and check that this key may use the model.
    """


class InvalidRequest(ProviderError):
    """The provider says that this request can never succeed (400, 404, 413, 422).

    What to do:
        Read `body`: the provider says what it does not accept. Most often the model's name or one parameter is wrong.
    """


class ContextTooLong(ProviderError):
    """The prompt plus the tokens it asks for exceed the model's context.

    What to do:
        Shorten the prompt, lower `max_tokens`, or use a model with a larger context.
    """


class ContentFiltered(ProviderError):
    """The provider's content filter stopped the prompt or the answer.

    What to do:
        Change the prompt, or the filter's settings at the provider. Asking the same again does not help.
    """


class Refused(ProviderError):
    """The model declined to answer.

    What to do:
        Change the prompt or the model. `reply.text` says what the model said instead.
    """


class OutputError(CallError):
    """An answer arrived and was paid for, but it cannot be used. `reply` holds it."""


class Truncated(OutputError):
    """The answer was cut off at the token limit, and only a complete one is useful.

    What to do:
        Raise `max_tokens`; a reasoning model needs room for its reasoning, too. `reply` has the part that arrived.
    """


class EmptyAnswer(OutputError):
    """The provider reported success but sent neither text nor a tool call.

    What to do:
        If the model reasons, raise `max_tokens`: its reasoning may have used all of it. Otherwise change the prompt or
        the model.
    """


class SchemaMismatch(OutputError):
    """The answer does not fit the output schema, or the arguments in it do not fit a tool.

    What to do:
        Read the message, which says what does not fit, and `reply.text`. Simplify the schema, raise `reasks`, or use a
        model with strict schemas.

    Attributes:
        complaints: what is wrong with a tool call's arguments, by the tool call's id.
    """

    def __init__(self, message: str, *, complaints: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.complaints: Mapping[str, str] = complaints or {}


class GuardrailTripped(OutputError):
    """A guardrail said stop.

    What to do:
        Read the reason in the message. `outcome` has the run so far.
    """


class NotSent(CallError):
    """flatout held the call back: it was not sent, or not sent again after `attempts`. Trying again later is safe."""


class BudgetExceeded(NotSent):
    """The call might cost more than the budget has left.

    What to do:
        Raise `budget`, or set `max_tokens`, so that less has to be reserved for each call. With a run file, run the
        same command again: only calls without an answer are asked.
    """


class CircuitOpen(NotSent):
    """The call's target is stopped (wrong key, quota used up) or dead. `__cause__` says why.

    What to do:
        Fix the cause, which the message names. Nothing was paid. With a run file, run the same command again.
    """


class DeadlineExceeded(CallError):
    """The whole call, queueing and retries included, did not end by its deadline.

    What to do:
        Raise `deadline`. The message says what the call waited for: a server that was down, or its turn.
    """


class Exited(CallError):
    """One of your functions asked the program to end. Work in progress finishes first; then the program ends.

    What to do:
        Find the function that calls `sys.exit()`. If only its own item should fail, let it raise another exception.

    Attributes:
        exit: the SystemExit or KeyboardInterrupt; None if the error comes from a run file.
    """

    def __init__(self, message: str, *, exit: BaseException | None = None, attempts: int = 0) -> None:
        super().__init__(message, attempts=attempts)
        self.exit = exit


class Skipped(CallError):
    """Somebody skipped the row with ``flatout ctl`` while the run went. The message says who.

    What to do:
        Nothing, if you meant it: a run that goes on leaves the row alone. `--retry-failed` asks it again.
    """


class UsageLimitReached(CallError):
    """An agent's run reached one of its `flatout.agents.UsageLimits` and stopped.

    What to do:
        Raise the limit in `UsageLimits`, or find out from `outcome.trace` why the agent needs so much.

    Attributes:
        limit: the limit's name, such as ``turns``.
        allowed: the limit.
        used: what had been used by then; None if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: str | None = None,
        allowed: float | None = None,
        used: float | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.limit = limit
        self.allowed = allowed
        self.used = used


class StepUnknown(CallError):
    """A step with side effects began before a crash. Its outcome is unknown, so it is not repeated.

    What to do:
        Check yourself whether the step took effect. Then let the agent's `approve` decide whether to run it again, and
        run with `retry_failed=True`.
    """


class StoreError(FlatoutError):
    """The run file could not be opened, read or written.

    What to do:
        Read the message: it names the file and the system's error. Keep run files on a local disk with free space.
    """


class RunLocked(StoreError):
    """Another process is writing this run file.

    What to do:
        Wait for the other process, which the message names, or stop it.
    """


class RunMismatch(StoreError):
    """The run file belongs to another job. The message names the first difference.

    What to do:
        Go back to the input, prompt, model and parameters of the run. Or start another run, with another file for
        `store`, or with `--fresh`.
    """

    def __str__(self) -> str:
        return f"{self.difference}; use another file to start over"

    @property
    def difference(self) -> str:
        """The message without its advice. The command gives different advice."""
        return super().__str__()


class RunDamaged(StoreError):
    """The file is not a readable run file.

    What to do:
        Rescue what can be read (`flatout export FILE -o rescued.jsonl --salvage`), and start over with another file.
    """
