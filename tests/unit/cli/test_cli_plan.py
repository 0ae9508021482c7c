"""The words of a plan, and the command line that it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatout.cli import main
from flatout.cli.parse import as_run
from flatout.cli.plan_text import lines
from flatout.values.plan import Lane, ModelPlan, Plan, Range

COST, TIME = Range(1.9, 2.1, 2.4), Range(60.0, 65.0, 72.0)


def plan(model: ModelPlan | None = None, **changes: object) -> str:
    one = model or ModelPlan(model="openai/gpt-5-mini", left=950, cost=COST, seconds=TIME)
    given = {"calls": 1_000, "finished": 50, "left": 950, "asked": 50, "spent": 0.11, "cost": COST, "seconds": TIME}
    return "\n".join(lines(Plan(**{"models": (one,), **given, **changes})))


def test_a_dry_run_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever wants to know the cost first would have to open an account."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    Path("in.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    command = ["plan", "in.jsonl", "-o", "out.jsonl", "-m", "openai/gpt-5-mini", "-m", "anthropic/claude-haiku-4-5"]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("4 calls left of 4: $0.00")
    assert main(command) == 2
    assert "no key for openai" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("plan in.csv -o out.csv -m a", "run in.csv -o out.csv -m a"),
        ("plan --sample 20 in.csv --dry-run -m a", "run in.csv -m a"),
        ("plan in.csv --sample=20 --confirm-above 10 --yes -q", "run in.csv -q"),
        ("plan in.csv --json --sample-budget=2 --limit 3", "run in.csv --limit 3"),
        ("run in.csv --sample 3", "run in.csv --sample 3"),
        ("", ""),
    ],
)
def test_a_plan_stands_for_a_run(given: str, meant: str) -> None:
    """The command that is kept for going on would plan once more, or not be understood."""
    assert as_run(given.split()) == meant.split()


def test_the_first_line_says_what_is_left_and_what_it_costs() -> None:
    """Somebody in a hurry would have to search for the figure."""
    first = plan().splitlines()[0]
    assert first == (
        "950 calls left of 1,000: $1.90 to $2.40 (median $2.10), 1 min 00 s to 1 min 12 s (median 1 min 05 s)"
    )


def test_what_is_not_known_is_not_0() -> None:
    """An unknown price would be taken for none."""
    told = plan(ModelPlan(model="m", left=950), cost=None, seconds=None)
    assert "cost unknown" in told
    assert "$0 " not in told
    assert "50 calls asked and kept, at an unknown cost" in plan(spent=None, unpriced=50)
    assert "kept, for at least $0.1100, and 1 call of unknown cost" in plan(spent=0.11, unpriced=1)


def test_a_sample_without_an_answer_is_not_kept() -> None:
    """Somebody would look for answers that are not there."""
    assert "50 calls asked, for $0" in plan(ModelPlan(model="m", failures={"InvalidRequest": 50}), spent=0.0)


def test_what_a_prompt_cache_would_save_is_told() -> None:
    """Nobody would know that there is an option for it."""
    told = plan(ModelPlan(model="m", cost=COST, saved_by_caching=COST.times(0.5)))
    assert "begin alike --prompt-cache auto saves $0.9500 to $1.20 (median $1.05), 50 % of the cost" in told
    assert "prompt-cache" not in plan(ModelPlan(model="m", cost=COST))


def test_the_limit_that_binds_is_named() -> None:
    """Nobody would know which limit to raise."""
    told = plan(ModelPlan(model="m", seconds=TIME, held_by="requests", limits={"rpm": 600.0, "tpm": 9e5}))
    assert "600 requests per minute" in told
    assert "tokens per minute" not in told
    assert "nothing but the model's own speed" in plan(ModelPlan(model="m", seconds=TIME))
    assert "a pause that the provider asked for" in plan(ModelPlan(model="m", seconds=TIME, held_by="pause"))


def test_a_long_job_is_told_what_would_shorten_it() -> None:
    """Somebody would rent a cluster to make a provider faster."""
    week = Range(597_000.0, 600_000.0, 603_000.0)  # a hundred million calls at 10,000 a minute
    batch = Lane(name="batch", cost=COST.times(0.5), within=86_400.0)
    held = {"held_by": "requests", "limits": {"rpm": 10_000.0}}
    told = plan(ModelPlan(model="m", seconds=week, lanes=(batch,), **held))
    shortens = "not by more machines; 7 keys with limits of their own: 23 h 48 min"
    assert f"{shortens}; in batches: within 1 d 0 h, $0.9500 to $1.20 (median $1.05)" in told
    hours = Range(7_200.0, 7_200.0, 7_200.0)
    assert plan(ModelPlan(model="m", seconds=hours, lanes=(batch,), **held)).endswith(
        "not by more machines; 2 keys with limits of their own: 1 h 00 min"
    )
    for other in (ModelPlan(model="m", seconds=TIME, **held), ModelPlan(model="m", seconds=week, held_by="pause")):
        assert "faster" not in plan(other)


def test_lanes_are_told_only_where_there_is_a_choice() -> None:
    """A server of one's own would be shown beside lanes that it does not have."""
    batch = Lane(name="batch", cost=COST.times(0.5), within=86_400.0, refuses="streams", usable=False)
    live = Lane(name="live", cost=COST, seconds=TIME)
    told = plan(ModelPlan(model="m", lanes=(live, batch)))
    assert "batch       $0.9500 to $1.20 (median $1.05), within 1 d 0 h, refuses streams; its account" in told
    assert "live" not in plan(ModelPlan(model="m", lanes=(live, Lane(name="batch", offered=False))))


def test_rows_that_are_left_out_are_told() -> None:
    """The numbers would not add up, and nobody know why."""
    long = ModelPlan(model="m", too_long=3, longest=150_000.0, context=128_000, failures={"SchemaMismatch": 2})
    told = plan(long, too_long=3, cached=20, duplicates=7, left=900)
    assert "3 calls beyond 128,000 tokens: the longest has 150k tokens" in told
    assert "20 calls that cost nothing: left out" in told
    assert "7 calls that ask the same as another: left out" in told
    assert "2 × SchemaMismatch in the sample" in told
    assert "7 calls that ask the same as another: with --cache they cost nothing" in plan(duplicates=7)


def test_a_hostile_model_name_draws_nothing() -> None:
    """A name with control characters would write on the terminal."""
    assert "\x1b" not in plan(ModelPlan(model="m\x1b[31m"), assumed=("no\x1b[2J",))


def test_models_beside_each_other_have_their_prices() -> None:
    """A comparison would have to be reckoned by hand."""
    dear = ModelPlan(model="dear", left=950, cost=COST.times(2.0), seconds=TIME)
    told = "\n".join(lines(Plan(calls=2_000, left=1_900, models=(ModelPlan(model="cheap", left=950), dear))))
    assert "dear: 950 calls left, $3.80 to $4.80 (median $4.20), 1 min 00 s to" in told
    assert "cheap: 950 calls left, not forecast" in told
