"""What became of the tickets, as tables."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from flatout import Result
from flatout.agents import Outcome
from flatout.events import WAITS


class Report:
    """Collects results; its text is the report.

    Args:
        tickets: the tickets, each with the ``kind`` that it really is.
    """

    def __init__(self, tickets: list[dict[str, Any]]) -> None:
        self._tickets = tickets
        self._began = time.monotonic()
        self.results: list[Result[Any]] = []

    def add(self, result: Result[Any]) -> None:
        self.results.append(result)

    def __str__(self) -> str:
        parts = (self._outcomes(), self._verdicts(), self._tools(), self._totals(), self._times())
        return "\n\n".join("\n".join(part) for part in parts)

    @property
    def _ended(self) -> list[tuple[dict[str, Any], Result[Any], Outcome | None]]:
        """Each ticket, its result, and the outcome, which an error may have as well."""
        return [
            (self._tickets[each.index], each, each.output if each.ok else getattr(each.error, "outcome", None))
            for each in self.results
        ]

    def _outcomes(self) -> Iterable[str]:
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        failed: Counter[str] = Counter()
        for ticket, result, outcome in self._ended:
            row = found[ticket["kind"]]
            row["tickets"] += 1
            if not result.ok:
                row["failed"] += 1
                failed[type(result.error).__name__] += 1
            elif outcome is not None:
                row["verified"] += outcome.verified is True
                row["review"] += outcome.next_action == "review"
                row["follow-up"] += outcome.next_action not in (None, "review")
                row["done"] += bool(outcome.answer.done)
                row["recognised"] += outcome.classification == ticket["kind"]
        columns = ["tickets", "recognised", "done", "verified", "follow-up", "review", "failed"]
        yield from _table("outcomes by kind", found, columns)
        if failed:
            yield "failed: " + ", ".join(f"{name} {count}" for name, count in failed.most_common())

    def _verdicts(self) -> Iterable[str]:
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for step in self._steps("guard", "approve", "verify"):
            name = f"{step.kind} {step.name}" if step.kind == "approve" else step.name
            found[name][step.verdict or "stop"] += 1
        return _table("verdicts", found, ["pass", "fail", "stop"])

    def _tools(self) -> Iterable[str]:
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for step in self._steps("tool"):
            found[step.name][step.verdict or ("failed" if step.error else "run")] += 1
        return _table("tools", found, ["run", "failed", "denied", "refused"])

    def _totals(self) -> Iterable[str]:
        outcomes = [outcome for _, _, outcome in self._ended if outcome is not None]
        attempts = sum(result.attempts for result in self.results)
        tokens = [(each.usage.input_tokens, each.usage.output_tokens) for each in outcomes]
        costs = [result.cost for result in self.results]
        yield f"calls {sum(each.calls for each in outcomes):,}, attempts {attempts:,}"
        yield "tokens in {}, out {}".format(*(_sum(column) for column in zip(*tokens, strict=True))) if tokens else ""
        cost = [each for each in costs if each is not None]
        yield f"cost ${sum(cost):.4f}" if len(cost) == len(costs) else f"cost unknown (${sum(cost):.4f} or more)"
        yield f"seconds {time.monotonic() - self._began:.1f}"

    def _times(self) -> Iterable[str]:
        """Seconds of all tickets together; they run side by side."""
        stages: Counter[str] = Counter()
        waits: Counter[str] = Counter()
        for _, _, outcome in self._ended:
            if outcome is not None:
                stages.update(outcome.times)
                waits.update(outcome.waits)
        yield "where the time went, in seconds of all tickets together"
        yield "  by stage: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.most_common())
        causes = ", ".join(f"{WAITS[name]} {seconds:.1f}" for name, seconds in waits.most_common() if seconds > 0.05)
        yield f"  of which waiting for: {causes}"

    def _steps(self, *kinds: str) -> Iterable[Any]:
        for _, _, outcome in self._ended:
            if outcome is not None:
                yield from (step for step in outcome.trace if step.kind in kinds)


def _sum(column: Iterable[int | None]) -> str:
    numbers = list(column)
    return "unknown" if None in numbers else f"{sum(number or 0 for number in numbers):,}"


def _table(title: str, rows: dict[str, Counter[str]], columns: list[str]) -> Iterable[str]:
    yield f"{title:<24}" + "".join(f"{column:>12}" for column in columns)
    for name, counts in sorted(rows.items()):
        yield f"  {name:<22}" + "".join(f"{counts[column] or '-':>12}" for column in columns)
