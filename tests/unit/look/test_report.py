"""What a report says of a run, against the run file."""

from __future__ import annotations

import base64
import json
import shutil
import time
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from flatout.look.course import Course, at_work
from flatout.look.facts import Facts, FailedClass
from flatout.look.report.clock import Clock
from flatout.look.report.compare import _between, _cell, _change, _laid
from flatout.look.report.gather import gather
from flatout.look.report.model import UNKNOWN_COSTS, Plot, Report, Rows, Run, Series
from flatout.look.report.pictures import groups
from flatout.look.report.scale import in_scale
from flatout.look.report.sums import Histogram, outlines
from flatout.look.report.tally import Tally
from flatout.look.report.timeline import timeline
from flatout.look.report.variants import Agreement, names_of
from flatout.look.report.words import attention, headline
from flatout.store import RunReader
from flatout.store.course import Happening, Kind, Stretch
from tests.support.report_runs import BEGAN, FAILED, TARGET, course, happened, row, rows, written

COUNT = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(
        tmp_path_factory.mktemp("report") / "answers.jsonl.flatout",
        rows(COUNT),
        stretches=course(100),
        happenings=happened(100),
        attempts=[(one.index, attempt, TARGET, BEGAN, 0.1, None, None if attempt == 1 else "ServerError: HTTP 500")
                  for one in rows(COUNT) if one.attempts > 1 for attempt in range(1, one.attempts + 1)],
        total=COUNT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    (one,) = gather([place]).runs
    return one


def unpacked(packed: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def columns(table: Rows | None) -> dict[str, list[Any]]:
    assert table is not None
    return dict(zip(table.columns, unpacked(table.packed), strict=True))


def plot(run: Run, name: str) -> dict[str, tuple[Any, ...]]:
    found: Plot = next(each for each in run.plots if each.name == name)
    assert all(len(series.values) == len(found.x) for series in found.series)
    return {series.label: series.values for series in found.series}


def test_the_outcome_comes_first(run: Run, place: Path) -> None:
    """A reader would have to look at plots to learn whether the run went well."""
    with RunReader.open(place) as reader:
        summary = reader.summary()
    assert run.headline == f"{summary.answered} of 400 rows answered in 1 min 40 s"
    assert run.sentences[0].startswith("Tokens per minute bound")
    assert run.sentences[-1].startswith("Cost: at least $")
    assert "The provider took 1.4" in run.sentences[-2]
    titles = [each.title for each in run.attention]
    assert f"{summary.cut_off} answers cut off at the token limit" in titles
    assert all(each.advice for each in run.attention)
    assert run.state == "finished"


def test_the_plots_are_the_course(run: Run) -> None:
    """A plot would show another rate than the run had, or another limit than it obeyed."""
    stretches = list(course(100))
    requests = plot(run, "requests")
    assert requests["sent"] == tuple(each.sent for each in stretches)
    assert set(requests["limit on requests"]) == {25.0}
    assert plot(run, "in_flight")["in flight"] == tuple(each.in_flight for each in stretches)
    assert plot(run, "waiting")["waiting"] == tuple(each.waiting for each in stretches)
    assert plot(run, "tokens")["output"] == tuple(60 * each.output_tokens for each in stretches)
    assert plot(run, "latency_over_time")["median"][60:] == ((None,) * 15 + tuple(
        pytest.approx(each.latency_p50, abs=1e-4) for each in stretches[75:]
    ))  # fmt: skip
    shown = next(each for each in run.plots if each.name == "requests")
    assert [(band.begin, band.end) for band in shown.bands] == [(50.0, 75.0)]
    assert [(mark.at, mark.label) for mark in shown.marks] == [(25.0, "changed by ada: rpm 1200 → 1500")]


def test_limits_of_several_targets_are_one_beside_what_was_sent_to_all() -> None:
    """A run of two models within their limits would seem to have sent twice what it may."""
    one = list(course(3))
    other = [replace(each, target="b/m", began_at=each.began_at + 1) for each in one]
    both = Course.of([*one, *other])
    [requests, *_] = timeline(both, Clock.of(both.whole(), 0.0, 9.0))
    limits = {each.label: each.values for each in requests.series if each.look == "limit"}
    each = one[0].allows["rpm"] / 60
    assert limits == {"limit on requests": (2 * each,) * 4}


def test_the_plots_are_the_rows(run: Run) -> None:
    """Money, failures or answers would be missing from a plot."""
    items = list(rows(COUNT))
    failed = Counter(one.error for one in items if one.error)
    assert {label: sum(values) for label, values in plot(run, "errors").items()} == failed
    (money,) = plot(run, "money").values()
    assert money[-1] == pytest.approx(run.figures["US dollars"], rel=1e-4)
    answered = sum(one.state == "answered" for one in items)
    assert [sum(values) for values in plot(run, "latency").values()] == [answered, answered]
    retries = {label: sum(values) for label, values in plot(run, "retries").items()}
    assert retries == {"ServerError": sum(one.attempts - 1 for one in items if one.attempts > 1)}
    waits = {bar.label: bar.value for bars in run.bars if bars.name == "waits" for bar in bars.bars}
    assert waits["tokens per minute"] == pytest.approx(3.1 * COUNT)
    assert [bar.value for bars in run.bars if bars.name == "attempts" for bar in bars.bars] == [
        count for _, count in sorted(Counter(one.attempts for one in items).items())
    ]


def test_every_row_is_there(place: Path) -> None:
    """A row would be missing from the table, or open to the texts of another."""
    table = gather([place]).rows
    found = columns(table)
    assert table is not None
    assert found["row"] == list(range(1, COUNT + 1))
    assert found["error"] == [one.error for one in rows(COUNT)]
    texts = [text for packed in table.texts for text in unpacked(packed)]
    assert [text.get("answer") for text in texts] == [one.answer for one in rows(COUNT)]
    assert all(text["prompt"].startswith("Is this mail spam or ham?") for text in texts)
    tried = next(place for place, one in enumerate(rows(COUNT)) if one.attempts == 2)
    assert [node["outcome"] for node in texts[tried]["trace"]] == ["retried", "answered"]
    assert "trace" not in texts[next(n for n, one in enumerate(rows(COUNT)) if one.attempts == 1)]


def test_of_many_rows_a_sample_and_all_failed_ones_are_kept(place: Path) -> None:
    """The page of a million rows would be too large to open, or lack the rows that people look for."""
    report = gather([place], most=100)
    found = columns(report.rows)
    failed = [one.index + 1 for one in rows(COUNT) if one.error]
    assert len(found["row"]) == 100
    assert [row for row, state in zip(found["row"], found["state"], strict=True) if state != "answered"] == failed
    assert 150 < sum(found["row"]) / 100 < 250  # drawn evenly
    assert report.rows is not None
    assert report.rows.note == "100 of 400 rows: a sample of the answered ones, and all failed ones."


def test_long_texts_are_cut_so_that_the_page_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand long answers would make a page that no browser opens."""
    draw = Random(1)

    def noise(index: int) -> str:
        return f"{index} {draw.getrandbits(16_000):x} sk-{'0123456789' * 3} "

    monkeypatch.setattr("flatout.look.report.packing.MOST_BYTES", 345_000)
    path = written(tmp_path / "a.flatout", (row(n, draw, answer=noise(n), output=None) for n in range(1_500)))
    table = gather([path]).rows
    assert table is not None
    assert 250_000 < sum(map(len, table.texts)) < 360_000
    texts = [text for part in table.texts for text in unpacked(part)]
    assert all(text["answer"].endswith("…") for text in texts)
    assert len(texts[-1]["answer"]) >= 100


def test_no_key_is_in_a_page(tmp_path: Path) -> None:
    """A page that is mailed around would carry the key that somebody pasted into a prompt."""
    key = "sk-0123456789abcdef0123"
    prompt = json.dumps({"prompt": f"use {key}"}).encode()
    path = written(tmp_path / "a.flatout", [row(0, Random(1), answer=f"I use {key}", prompt=prompt)])
    table = gather([path]).rows
    assert table is not None
    assert key not in json.dumps(unpacked(table.texts[0]))


def test_memory_does_not_grow_with_the_rows(place: Path) -> None:
    """A million rows would not fit into memory."""

    def peak(items: int) -> int:
        draw = Random(1)
        few = [row(n, draw) for n in range(200)]
        tally, agreement = Tally(Clock([(BEGAN, BEGAN + 500)])), Agreement(("a", "b"))
        tracemalloc.start()
        for number in range(items):
            tally.add(few[number % 200])
            agreement.add(number // 2, number % 2, few[number % 200])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4_000) < 1.1 * peak(1_000) + 20_000


def test_a_run_file_without_a_course_shows_the_rest(tmp_path: Path) -> None:
    """Nobody could look at a run of an earlier version."""
    (one,) = gather([written(tmp_path / "a.flatout", rows(50, finished_at=time.time() + 60))]).runs
    assert {"answered", "latency", "money"} <= {each.name for each in one.plots}
    assert "requests" not in {each.name for each in one.plots}


@pytest.mark.parametrize("version", [2, 5, 6])
def test_a_run_file_of_an_earlier_version_says_what_it_lacks(tmp_path: Path, version: int) -> None:
    """A reader would take it for a run that nothing held up."""
    shutil.copy(Path(__file__).parents[1] / "store/run_files" / f"version-{version}.flatout", tmp_path / "a.flatout")
    report = gather([tmp_path / "a.flatout"])
    assert report.runs[0].sentences[1].startswith("An earlier flatout wrote this file")
    assert columns(report.rows)["state"] == ["answered", "failed"]


def test_of_an_agents_run_the_answer_and_the_trace_are_shown(tmp_path: Path) -> None:
    """A reader would see the trace as a block of JSON, and look for the answer in it."""
    outcome = {"answer": "sent", "trace": [{"kind": "tool", "name": "look_up", "started": 0.1, "seconds": 0.5}]}
    item = row(0, Random(1), answer=None, output=json.dumps(outcome).encode())
    table = gather([written(tmp_path / "a.flatout", [item], attempts=[(0, 1, TARGET, BEGAN, 0.1)] * 2)]).rows
    assert table is not None
    (text,) = unpacked(table.texts[0])
    assert (text["answer"], "output" in text) == ("sent", False)
    assert [(node["kind"], node["name"]) for node in text["trace"]] == [("tool", "look_up")]


def test_an_empty_run_is_a_page(tmp_path: Path) -> None:
    """A run that has just begun would end in a traceback."""
    report = gather([written(tmp_path / "a.flatout", total=10)])
    assert report.runs[0].headline == "0 of 10 rows answered"
    assert report.rows is not None
    assert report.rows.count == 0


def test_a_run_that_died_says_so(tmp_path: Path) -> None:
    """A reader would wait for a run whose process has gone."""
    place = written(tmp_path / "a.flatout", rows(5), total=10, attempts=[(7, 1, TARGET, BEGAN, 0.5)])
    report = gather([place])
    assert "perhaps paid for nothing (at most $0.5000)" in report.runs[0].attention[-1].title


def test_hours_between_two_processes_are_left_out() -> None:
    """The plots of a run that was continued the next day would be two thin lines at their edges."""
    clock = Clock([(100.0, 160.0), (160.0, 200.0), (90_000.0, 90_100.0)])
    assert (clock.length, clock.gaps) == (200.0, [(100.0, 89_800.0)])
    assert [clock(at) for at in (50.0, 150.0, 5_000.0, 90_010.0, 99_999.0)] == [0.0, 50.0, 100.0, 110.0, 200.0]
    assert (clock.step, clock.slots) == (1.0, 200)
    day = Clock([(0.0, 86_400.0)])
    assert (day.step, day.slots) == (300.0, 288)


def test_the_pause_between_two_commands_is_no_time_of_the_run() -> None:
    """A run of 23 s would be told to have taken as long as its user needed to give the command again."""
    kinds: dict[float, Kind] = {100.0: "begin", 120.0: "end", 150.0: "begin", 153.0: "end", 90_000.0: "begin"}
    happenings = [Happening(at=at, kind=kind) for at, kind in kinds.items()]
    stretches = [replace(next(course(1)), began_at=at) for at in (100.0, 118.0, 151.0, 90_004.0, 90_009.0)]
    assert at_work(happenings, stretches, None) == 33.0
    assert at_work(happenings, stretches, 90_050.0) == 73.0
    assert at_work([], stretches, None) is None


def test_longer_stretches_are_spread_over_their_time(tmp_path: Path) -> None:
    """From the eleventh minute on, a plot would show spikes, where the rate was even."""
    stretches = [
        each.__class__(**{name: getattr(each, name) for name in each.__struct_fields__}
                       | {"began_at": BEGAN + 10 * number, "seconds": 10.0, "sent": 50})
        for number, each in enumerate(course(10))
    ]  # fmt: skip
    (one,) = gather([written(tmp_path / "a.flatout", rows(5), stretches=stretches)]).runs
    assert set(plot(one, "requests")["sent"]) == {5.0}


def test_an_outage_is_shaded_until_it_is_over(tmp_path: Path) -> None:
    """An outage without a known end would not be shown, or be shown to the end of the run."""
    told = [Happening(at=BEGAN + at, kind=kind, target=TARGET, what="503") for at, kind in ((20, "down"), (50, "back"))]  # type: ignore[arg-type]
    (one,) = gather([written(tmp_path / "a.flatout", rows(5), stretches=course(100), happenings=told)]).runs
    shown = next(each for each in one.plots if each.name == "requests")
    assert [(band.begin, band.end) for band in shown.bands] == [(20.0, 50.0)]


def test_quantiles_are_right_within_two_per_cent() -> None:
    """The 95th percentile in a report would be another than the real one."""
    draw, histogram = Random(5), Histogram()
    values = sorted(draw.lognormvariate(0.5, 0.8) for _ in range(5_000))
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.95, 0.99):
        assert histogram.quantile(share) == pytest.approx(values[int(share * 5_000)], rel=0.03)
    x, (counts,) = outlines([histogram])
    assert (sum(counts), counts[-1], len(x)) == (5_000, 0, len(counts))
    assert Histogram().quantile(0.5) is None


def test_failed_rows_are_no_model() -> None:
    """A run of one model would be shown as one of two, the second of which is unknown and answers nothing."""
    tally = Tally(Clock.of([], BEGAN, BEGAN + 1))
    tally.add(row(0, Random(0)))
    tally.add(row(1, Random(1), **{**FAILED, "model": None}))
    assert groups(tally.groups, "By model") == ()
    tally.add(row(2, Random(2), model="another"))
    (table,) = groups(tally.groups, "By model")
    assert [each[0] for each in table.rows] == ["gpt-5-mini-2026-08-07", "no model told", "another"]


def test_labels_of_two_models_are_set_against_each_other() -> None:
    """Nobody would see which labels two models confuse."""
    names = names_of({"models": ["a/m", "b/m"], "samples": None})
    agreement, draw = Agreement(names), Random(1)
    said = [("ham", "ham"), ("ham", "spam"), ("spam", "spam"), ("ham", "ham")]
    for number, pair in enumerate(said):
        for who, label in enumerate(pair):
            output = json.dumps({"label": label, "why": str(number) * 99}).encode()
            agreement.add(number, who, row(2 * number + who, draw, output=output))
    agreement.add(4, 0, row(8, draw))
    agreement.add(4, 1, row(9, draw, **FAILED))
    (table,) = agreement.tables()
    assert table.title == "label: a/m against b/m"
    assert table.rows == (("ham", 2, 1), ("spam", 0, 1))
    assert table.note.startswith("They agree on 3 of 4 rows that both answered (75.0 %).")


def test_the_variants_of_a_job_are_named() -> None:
    """Samples of one model would be taken for different models, or a hostile file break the page."""
    assert names_of({"models": ["a", "b"], "samples": 2}) == (
        "a · sample 0",
        "a · sample 1",
        "b · sample 0",
        "b · sample 1",
    )
    assert names_of({"samples": 3}) == ("sample 0", "sample 1", "sample 2")
    assert names_of({"model": "a"}) == names_of({"models": "abc", "samples": []}) == names_of({"samples": 10**9}) == ()


def test_several_runs_are_compared(place: Path, tmp_path: Path) -> None:
    """A user who tried another model would have to hold two pages side by side."""
    other = written(tmp_path / "other.jsonl.flatout", rows(200, seed=9), stretches=course(50))
    report: Report = gather([place, other])
    side, *agreement = report.compared
    assert side.heads == ("", "answers.jsonl", "other.jsonl", "change")
    assert {each[0]: each[-1] for each in side.rows}["seconds"] == "-50.0 %"
    both = [0 for one, another in zip(rows(200), rows(200, seed=9), strict=False) if not (one.error or another.error)]
    assert f"of {len(both)} rows that both answered" in agreement[0].note
    assert [series.label for series in report.overlaid[0].series] == ["answers.jsonl: sent", "other.jsonl: sent"]
    assert report.rows is None


def test_runs_of_unequal_length_are_compared_by_shares() -> None:
    """Twice as many rows would look like twice as many failures."""
    first = {"answered": 90.0, "failed": 10.0, "US dollars": None}
    last = {"answered": 180.0, "failed": 20.0, "US dollars": None}
    assert [_change(name, first, last) for name in first] == ["", "", ""]
    assert _cell("failed", last) == "20 (10 %)"
    assert _change("failed", first, last | {"failed": 60.0}) == "+15.0 points"
    assert _cell("US dollars", last) == "unknown"


def test_gaps_stay_gaps_where_curves_are_laid_over_each_other() -> None:
    """A line would run through the night between two parts of a run."""
    x, values = (0.0, 2.0, 4.0, 6.0), (1.0, 3.0, None, 5.0)
    assert [_between(x, values, at) for at in (0.0, 1.0, 3.0, 5.0, 6.0, 7.0)] == [1.0, 2.0, None, None, 5.0, None]


def test_a_burst_does_not_press_the_limit_onto_the_zero_line() -> None:
    """The first picture would show one peak, and nothing of the run."""
    held = {"target": "m", "allows": {"rpm": 600.0}, "seconds": 1.0, "refused": 0, "failed": 0, "waiting": 0}
    stretches = [
        Stretch(began_at=float(at), sent=600 if at == 1 else 10, answered=10, in_flight=0, held={}, **held)
        for at in range(60)
    ]
    clock = Clock.of(stretches, 0.0, 60.0)
    plot = timeline(Course.of(stretches), clock)[0]
    assert plot.top == 30.0
    assert plot.note == "The scale ends at 30; at most there were 600 per second."
    assert [mark.label for mark in plot.marks] == ["600 per second, above the scale"]


def curve(values: tuple[float, ...], **changes: Any) -> Plot:
    """A plot of one curve, by the second."""
    fields = {"name": "requests", "title": "", "unit": "per second", "x": tuple(map(float, range(len(values))))}
    return Plot(**fields, series=(Series(label="sent", values=values),), **changes)


def test_a_limit_far_above_the_calls_does_not_press_them_onto_the_zero_line() -> None:
    """Of ninety calls in flight below a bound of a thousand nothing could be seen."""
    calls = Series(label="in flight", values=(80.0, 90.0), look="area")

    def shown(limit: float) -> Plot:
        bound = Series(label="most at once", values=(None, limit), look="limit")
        return in_scale(Plot(name="in_flight", title="", unit="calls", x=(0.0, 1.0), series=(calls, bound)))

    assert shown(1_000.0).top == pytest.approx(99.0)
    assert shown(1_000.0).note == "The scale ends at 99; the most at once is above it, at 1,000."
    assert shown(200.0).top is None


def test_a_burst_of_one_run_does_not_hide_the_other() -> None:
    """The first picture of a comparison would show one peak, whether or not the runs' limits are known."""
    burst, even = curve((600.0, *[10.0] * 59)), curve((5.0,) * 60)
    plot = _laid({"a": burst, "b": even})
    assert (plot.top, plot.note) == (30.0, "The scale ends at 30; at most there were 600 per second.")
    assert _laid({"a": even, "b": curve((400.0,) * 60)}).top is None  # one that is faster throughout is no burst
    assert in_scale(curve((600.0, 10.0, 10.0))).top is None  # too few values to tell what is usual
    money = replace(curve((*[0.0] * 59, 4.0)), unit="US dollars")
    assert in_scale(money).top is None


def test_a_sum_that_is_known_in_part_is_not_compared() -> None:
    """A run with unknown costs would look cheaper than one whose costs are known."""
    part = {"answered": 2.0, "failed": 0.0, "US dollars": 1.5, UNKNOWN_COSTS: 3.0}
    whole = {"answered": 2.0, "failed": 0.0, "US dollars": 3.0, UNKNOWN_COSTS: 0.0}
    assert (_cell("US dollars", part), _cell("US dollars", whole)) == ("at least 1.5", "3")
    assert _change("US dollars", part, whole) == _change("US dollars", whole, part) == ""
    assert _change("US dollars", whole, {**whole, "US dollars": 6.0}) == "+100.0 %"


def test_a_pause_by_a_person_is_shaded() -> None:
    """A gap in the curve would look like a fault."""
    stretches = [
        Stretch(
            began_at=float(at),
            seconds=1.0,
            target="m",
            sent=1,
            answered=1,
            refused=0,
            failed=0,
            in_flight=0,
            waiting=0,
            held={},
            allows={},
        )
        for at in range(60)
    ]
    happened = [
        Happening(at=10.0, kind="change", what="paused, rpm 60", does="pause", by="ada"),
        Happening(at=20.0, kind="change", what="resumed", does="resume", by="bob"),
    ]
    plot = timeline(Course.of(stretches, happened), Clock.of(stretches, 0.0, 60.0))[0]
    assert [(band.begin, band.end, band.label) for band in plot.bands] == [(10.0, 20.0, "paused by ada")]


def agreement_of(folder: Path, left: list[dict[str, Any]], right: list[dict[str, Any]]) -> str:
    """How often two runs agree, of rows that differ from each other as given."""
    places = []
    for name, changes in (("left", left), ("right", right)):
        items = [row(index, Random(1), **each) for index, each in enumerate(changes)]
        places.append(written(folder / f"{name}.flatout", items))
    tables = gather(places).compared[1:]
    return tables[0].note.partition(" rows")[0] if tables else ""


def mail(text: str, label: str, id: str | None = None, model: str = "a", **changes: Any) -> dict[str, Any]:
    prompt = json.dumps({"prompt": f"Spam? {text}", "model": model}).encode()
    given = {"id": id, "input": json.dumps({"text": text}).encode(), "prompt": prompt}
    return {**given, "output": json.dumps({"label": label}).encode(), **changes}


def test_rows_of_two_runs_meet_by_their_ids(tmp_path: Path) -> None:
    """Answers to different rows would be compared when the input of the second run was sorted."""
    left = [mail("one", "ham", "1"), mail("two", "spam", "2"), mail("three", "ham", "3")]
    right = [mail("THREE", "ham", "3"), mail("ONE", "ham", "1"), mail("TWO", "ham", "2"), mail("four", "spam", "4")]
    assert agreement_of(tmp_path, left, right) == "They agree on 2 of 3"


def test_rows_without_ids_meet_by_their_content(tmp_path: Path) -> None:
    """Two inputs in another order, or with a row more, could not be compared; or row 2 with another row 2."""
    left = [mail("one", "ham"), mail("two", "spam"), mail("three", "ham")]
    right = [mail("zero", "spam"), mail("one", "ham"), mail("two", "ham"), mail("three", "ham", id="7")]
    assert agreement_of(tmp_path, left, right) == "They agree on 2 of 3"


def test_rows_with_other_ids_meet_by_their_content(tmp_path: Path) -> None:
    """Rows that each run numbered in its own way could not be compared."""
    left = [mail("one", "ham", "a1"), mail("two", "spam", "a2")]
    right = [mail("two", "spam", "b1"), mail("one", "spam", "b2")]
    assert agreement_of(tmp_path, left, right) == "They agree on 1 of 2"


@pytest.mark.parametrize("kept", [True, False])
def test_rows_without_an_input_meet_by_their_question_or_their_place(tmp_path: Path, kept: bool) -> None:
    """Runs of a program could not be compared, since each of its calls names another model."""
    changes: dict[str, Any] = {"input": None} if kept else {"input": None, "prompt": None}
    left = [mail("one", "ham", **changes), mail("two", "spam", **changes)]
    right = [mail("one", "ham", model="b", **changes), mail("two", "ham", model="b", **changes)]
    assert agreement_of(tmp_path, left, right) == "They agree on 1 of 2"


def test_rows_with_nothing_else_in_common_meet_at_their_place(tmp_path: Path) -> None:
    """A program that tries two wordings of a question could not compare them."""
    left = [mail("one", "ham", input=None), mail("two", "spam", input=None)]
    right = [mail("uno", "ham", input=None), mail("due", "ham", input=None)]
    assert agreement_of(tmp_path, left, right) == "They agree on 1 of 2"


def test_rows_that_were_left_need_attention_and_skipped_ones_do_not() -> None:
    """A run with a dead server would need no attention, and a row that somebody skipped would."""
    tally = Tally(Clock.of([], BEGAN, BEGAN + 1))
    failed = [FailedClass("Skipped", 1, 3, "skipped by ada", "nothing")]
    facts = Facts(state="interrupted", total=40, left=39, finished=1, failed=1, unsent=39, errors=failed)
    left, *others = attention(facts, tally, 0)
    assert left.title == "39 rows left without an answer, 39 of them held back"
    assert not others
    assert headline(facts, 1.0) == "0 of 40 rows answered in 1.0 s, 1 skipped"
