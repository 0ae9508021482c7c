from __future__ import annotations

from msgspec.structs import replace

from flatout.cli.summary import details, headline
from flatout.cli.terminal import lay_out
from flatout.progress._counters import Batches, Failure, Progress, PromptCacheUse, Spent
from flatout.runs.job import RunEnd
from flatout.values.budget import Standing
from flatout.values.route import Share

DONE = RunEnd(interrupted=False, unfinished=0, run_file="a.jsonl.flatout", output="a.jsonl")
BROKEN = RunEnd(interrupted=True, unfinished=1_719, run_file="a.jsonl.flatout", output="a.jsonl")


def full() -> Progress:
    return Progress(
        total=10_000,
        resumed=120,
        answered=9_877,
        failed=3,
        input_tokens=1_234_567,
        output_tokens=98_765,
        cost=1.5,
        retries=12,
        throttled=5,
        elapsed=62.0,
        call_seconds=8_060.0,
        waits={"first_byte": 62.0, "requests": 30.0, "concurrency": 7.0, "connect": 1.0, "body": 0.0},
        failures={
            "Refused": Failure(1, "I can\x1b]0;not\x07", 99, "rephrase the prompt"),
            "RateLimited": Failure(2, "too fast " * 100, 17, "state your limits"),
        },
    )


def text(progress: Progress, outcome: RunEnd = DONE) -> str:
    return "\n".join(lay_out(details(progress, outcome)))


def test_the_headline_counts_everything_once() -> None:
    """A user could not tell how many rows have an answer."""
    assert headline(full(), DONE) == "Done in 1 min 02 s: 9,877 answered, 3 failed, 120 finished before."
    assert headline(full(), BROKEN).startswith("Interrupted after 1 min 02 s")
    assert headline(full(), BROKEN).endswith("1,719 still to do.")
    again = full()
    again.failed_before = 7
    assert "120 finished before (7 of them failed)" in headline(again, DONE)
    stopped = RunEnd(interrupted=False, unfinished=7, run_file="a.jsonl.flatout", output="a.jsonl")
    assert (
        headline(Progress(answered=3, held=7, elapsed=2.0), stopped) == "Stopped after 2.0 s: 3 answered, 7 held back."
    )
    stopped = replace(stopped, unfinished=40)
    assert headline(Progress(held=7), stopped).endswith(": 0 answered, 40 still to do, 7 of them held back.")
    assert headline(Progress(resumed=5), DONE) == "Nothing left to do: 5 finished before."


def test_the_summary_says_what_each_target_of_a_route_did() -> None:
    """A user could not tell which provider answered, and which one was paid."""
    progress = full()
    progress.shares = {"a/m": Share(answered=30, attempts=31, cost=0.5)}
    assert "targets" not in text(progress)
    progress.earlier = Spent(shares={"b/m": Share(answered=10, attempts=10, cost=0.25, unknown_costs=1)})
    progress.shares = {"a/m": Share(answered=30, attempts=31, cost=0.5), "b/m": Share(answered=20, attempts=20)}
    said = " ".join(text(progress).split())
    assert "targets a/m 30 answers (50 %) in 31 attempts, $0.5000 b/m 30 answers (50 %), ≥ $0.2500 cost" in said


def test_the_summary_says_what_the_prompt_cache_saved() -> None:
    """A user could not tell whether it worked, nor whether it cost more than it saved."""
    progress = full()
    assert "from cache" not in text(progress)
    progress.prompt_cache = PromptCacheUse(read=617_284, written=3_000, saved=1.25)
    assert "from cache  617,284 tokens of prompts (50 %), 3,000 written; saved $1.25" in text(progress)
    progress.earlier = Spent(prompt_cache=PromptCacheUse(read=1, written=0, saved=-2.0))
    assert "617,285 tokens of prompts (50 %), 3,000 written; cost $0.7500 more than it saved" in text(progress)
    progress.prompt_cache, progress.earlier = PromptCacheUse(written=7), Spent()
    assert "0 tokens of prompts, 7 written" in text(progress)


def test_the_summary_has_all_that_one_wants_to_know() -> None:
    """A user would not learn what it cost, how long it took and where the answers are."""
    said = text(full())
    for fact in (
        "1,234,567 in, 98,765 out",
        "$1.50",
        "12, 5 throttled (429)",
        "159 calls/s; one after another: 2 h 14 min, 130 times as long",
        "the provider 62 %, requests per minute 30 %, concurrency 7 %",
        "answers     a.jsonl",
        "run file    a.jsonl.flatout",
    ):
        assert fact in said
    assert "connecting" not in said


def test_answers_that_were_cut_off_are_told_with_what_to_do() -> None:
    """A user would find out from a reader that half of the texts have no end."""
    said = text(Progress(answered=1_000, cut_off=37, elapsed=2.0))
    assert "cut off     37 answers at the token limit" in said
    assert "max_tokens" in said
    assert "--fail-truncated" in said
    assert "cut off" not in text(Progress(answered=1_000, elapsed=2.0))


def test_errors_come_by_class_with_an_example_and_advice() -> None:
    """A user would not know what failed and what to do."""
    lines = text(full()).splitlines()
    assert lines[0].split() == ["no", "answer", "2", "×", "RateLimited"]
    assert lines[1].strip().startswith("row 17: too fast")
    assert len(lines[1]) < 200
    assert lines[2].strip() == "→ state your limits"
    assert lines[4].strip() == r"row 99: I can\x1b]0;not\x07"


def test_many_classes_of_errors_stay_readable() -> None:
    """A hundred different errors would scroll the summary away."""
    failures = {f"Error{number}": Failure(1, "x", None, "") for number in range(100)}
    assert len(text(Progress(failed=100, failures=failures)).splitlines()) < 30


def test_why_a_target_was_stopped_is_said() -> None:
    """A user would see rows without an answer and no reason."""
    crowded = {"openai/gpt-5": "refuses what the given limits allow"}
    assert "openai/gpt-5 refuses what the given limits allow" in text(Progress(crowded=crowded))
    assert "stopped     openai/gpt-5: the key is wrong" in text(Progress(stopped={"openai/gpt-5": "the key is wrong"}))


def test_the_reason_of_a_stop_is_said_once() -> None:
    """The one sentence that matters would be lost among its own repetitions."""
    why = "openai answered 401: the key is wrong"
    failures = {
        "CircuitOpen": Failure(498, f"not sent: openai/gpt-5 is stopped: {why}", 3, "mend what stopped the target"),
        "AuthenticationError": Failure(2, why, 1, "check the key"),
    }
    said = text(Progress(held=500, failures=failures, stopped={"openai/gpt-5": why}))
    assert said.count(why) == 1
    assert said.count("→") == 2
    assert text(Progress(held=500, failures=failures)).count(why) == 2


def test_what_was_not_sent_is_told_as_that() -> None:
    """A class that only its makers know would stand for hundreds of rows, as if they had been tried."""
    failures = {
        "CircuitOpen": Failure(299, "", 3, "", 299),
        "ConnectError": Failure(3, "", 1, "", 3),
        "DeadlineExceeded": Failure(4, "", 1, "", 1),
        "Odd": Failure(2, "", 1, ""),
    }
    said = text(Progress(held=303, failures=failures))
    assert "299 held back\n" in said
    assert "3 held back after ConnectError\n" in said
    assert "4 × DeadlineExceeded, 1 of them held back\n" in said
    assert "2 × Odd" in said


def test_what_is_not_known_is_said() -> None:
    """Unknown tokens and costs would be shown as 0."""
    said = text(Progress(answered=5, elapsed=1.0, unpriced=5))
    assert "tokens      unknown" in said
    assert "cost        unknown: neither the provider nor the price list tells" in said
    said = text(Progress(answered=5, elapsed=1.0, unpriced=1, cost=0.25))
    assert "at least $0.2500, and 1 attempt of unknown cost" in said


def test_lines_that_say_nothing_are_left_out() -> None:
    """A short run would be told in lines of zeros."""
    labels = [label for label, _ in details(Progress(resumed=5), DONE)]
    assert labels == ["answers", "run file"]
    quick = text(Progress(answered=5, elapsed=10.0, call_seconds=9.0, cost=0.1, input_tokens=1, output_tokens=1))
    assert "one after another" not in quick
    own = text(Progress(answered=5, elapsed=1.0, call_seconds=90.0, hosted=False))
    assert "one after another" not in own  # a server of one's own answers one call the quicker, the fewer it has
    assert "retries" not in quick


def test_an_interrupted_run_claims_no_output() -> None:
    """A user would look for a file that was not written."""
    assert "answers" not in text(full(), BROKEN)


def test_a_run_that_went_on_tells_what_all_of_it_cost() -> None:
    """The cost of the last process alone would be taken for that of the run."""
    before = Spent(input_tokens=900, output_tokens=90, cost=2.0)
    now = Progress(resumed=9, answered=1, cost=0.5, input_tokens=100, output_tokens=10)
    assert "tokens      100 in, 10 out" in text(now)
    assert "cost        $0.5000\n" in text(now)
    now.earlier = before
    assert "tokens      1,000 in, 100 out" in text(now)
    assert "cost        $2.50 (this time: $0.5000)\n" in text(now)
    now.earlier = Spent(cost=2.0, unpriced=3)
    assert "cost        at least $2.50, and 3 attempts of unknown cost (this time: $0.5000)\n" in text(now)
    nothing = Progress(resumed=9, earlier=before)
    assert "cost        $2.00 (this time: $0)\n" in text(nothing)


def test_a_limit_that_nobody_gave_is_said_to_be_searched_for() -> None:
    """A user would look for the requests per minute that they never set."""
    waits = {"requests": 3.0, "concurrency": 1.0}
    known = text(Progress(answered=1, elapsed=1.0, waits=waits))
    assert "requests per minute 75 %, concurrency 25 %" in known
    found = text(Progress(answered=1, elapsed=1.0, waits=waits, searched={"requests"}))
    assert "finding the limit on requests 75 %, concurrency 25 %" in found


def test_by_how_much_a_budget_may_be_exceeded_is_told() -> None:
    """Somebody who gave $5 would not know what could have happened, or would expect more to be spent after the end."""
    standing = Standing("$5", 0.013, 0.02, 1.657)
    told = text(Progress(answered=1, budget=standing))
    assert "budget      $0.0130 of $5 left; could have been exceeded by $1.66 had all answers in flight" in told
    left = text(Progress(answered=1, budget=standing, batches=Batches(open=1)))  # at the provider, which goes on
    assert "; may be exceeded by $0.0200" in left
    over = text(Progress(answered=1, budget=Standing("$5", 0.013, 0.02, 0.0)))
    assert "budget      $0.0130 of $5 left\n" in over + "\n"  # nothing is in flight any more
    kept = text(Progress(answered=1, budget=Standing("$20 a day (team)", None, 0.0, -3.0)))
    assert "budget      $20 a day (team)\n" in kept + "\n"
    assert "budget" not in text(Progress(answered=1))


def test_of_an_unknown_spending_nobody_knows_what_it_left() -> None:
    """Somebody would believe that a run at unknown prices had cost nothing."""
    assert "budget      $5\n" in text(Progress(answered=1, unpriced=1, budget=Standing("$5", 5.0, 0.02, 0.0)))


def test_a_used_up_budget_says_what_is_left_and_what_it_would_cost() -> None:
    """Nobody could tell what to raise the budget to."""
    progress = Progress(answered=400, cost=5.0, failures={"BudgetExceeded": Failure(600, "not sent", None, "raise it")})
    stopped = RunEnd(interrupted=False, unfinished=600, run_file="a.flatout", output="a.jsonl")
    assert "600 rows, for about $7.50 more" in text(progress, stopped)
    progress.cost = 0.0
    assert "left to do" in text(progress, stopped)
    assert "more" not in text(progress, stopped).split("left to do")[1].split("\n")[0]
    assert "left to do" not in text(full(), BROKEN)
