"""One step of an agent's run, as its outcome holds it and a run file keeps it, for whoever makes or reads either."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Step(Struct, kw_only=True, omit_defaults=True):
    """One step of a run, in the order in which they began. It is filled in while the step runs.

    Attributes:
        kind: ``classify``, ``plan``, ``act``, ``call``, ``tool``, ``guard``, ``approve``, ``execute`` or ``verify``.
        name: the stage, tool, guardrail or model.
        parent: the index in the trace of the step that this one belongs to; None at the top.
        started: seconds from the run's start to the step's.
        seconds: how long it took.
        attempts: attempts of its calls.
        input_tokens, output_tokens: as the provider counted them; None where it did not, or where there was no call.
        cost: US dollars of its calls; None when not known.
        waits: where the calls' seconds went; see `flatout.events.WAITS`.
        verdict: ``pass``, ``fail`` or ``stop``; for a tool that was not run ``refused`` or ``denied``.
        error: the class and the words of what went wrong.
        detail: what was asked, or the reason of a verdict, without keys and cut to 500 characters.
        result: what a tool returned, as the model read it, in the same way.
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
