"""One step of an agent's run, as its outcome has it and a run file stores it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Step(Struct, kw_only=True, omit_defaults=True):
    """One step of a run. Steps are listed in the order in which they began, and filled in while they run.

    Attributes:
        kind: ``classify``, ``plan``, ``act``, ``call``, ``tool``, ``guard``, ``approve``, ``execute`` or ``verify``.
        name: the stage, tool, guardrail or model.
        parent: the trace's index of the step that this one belongs to; None at the top.
        started: seconds from the run's start to the step's.
        seconds: how long it took.
        attempts: attempts of its calls.
        input_tokens, output_tokens: as the provider counted them; None if it did not, or if there was no call.
        cost: US dollars of its calls; None if unknown.
        waits: where the calls' seconds went; see `flatout.events.WAITS`.
        verdict: ``pass``, ``fail`` or ``stop``; for a tool that was not run ``refused`` or ``denied``.
        error: the class and the words of what went wrong.
        detail: the question, or the reason of a verdict, without keys and cut to 500 characters.
        result: what a tool returned, as the model read it; also without keys and cut.
    """

    kind: str
    name: str
    parent: int | None = None
    started: float = 0.0
    seconds: float = 0.0
    attempts: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = 0.0
    waits: Mapping[str, float] = {}
    verdict: str | None = None
    error: str | None = None
    detail: str | None = None
    result: str | None = None
