from __future__ import annotations

import asyncio
import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.cli.progress import WAYS, choose
from flatout.cli.terminal import say
from flatout.errors import ConfigError
from flatout.layers.limit import TargetNow
from flatout.progress._counters import Batches, Failure, Longest, Progress
from flatout.progress._display import LiveLine, PlainLines, Silent, watch
from flatout.progress._line import compose, failed_or_skipped
from flatout.progress._pace import Pace, Speed
from flatout.values.budget import Standing


def busy(**changes: object) -> Progress:
    values: dict[str, object] = {
        "total": 10_000,
        "resumed": 200,
        "answered": 1_000,
        "failed": 34,
        "in_flight": 512,
        "holds": "requests",
        "input_tokens": 120_000,
        "output_tokens": 3_456,
        "cost": 0.0123,
        "elapsed": 10.34,
        "held": 7,
        "retries": 61,
        "throttled": 5,
    }
    return Progress(**{**values, **changes})  # type: ignore[arg-type]  # names and types as Progress has them


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_live_line_has_all_that_one_wants_to_know() -> None:
    """A user could not see how far the run is, how fast, what it costs and what holds it up."""
    first, second = compose(busy(), Speed(100.0), "", 200, WAYS)
    for fact in ("1,234/10,000 (12 %)", "100 calls/s", "1 min 28 s left", "━"):
        assert fact in first
    assert "512 in flight (at most 512: open files)" in compose(busy(capped=512), Speed(100.0), "", 200, WAYS)[1]
    for fact in ("34 failed", "7 held back", "512 in flight", "waits for requests per minute"):
        assert fact in second
    for fact in ("61 retried (5 × 429)", "123k tokens", "$0.0123"):
        assert fact in second


def test_no_time_is_left_for_a_run_that_stops() -> None:
    """The line would promise minutes of a run that ends in half a minute."""
    first, second = compose(busy(stopping=True), Speed(100.0), "stopping, ends by 16:04:35 at the latest", 200, WAYS)
    assert "100 calls/s" in first
    assert "left" not in first
    assert second.startswith("stopping, ends by 16:04:35 at the latest")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (
            {"pace": 40.0, "rising": True},
            "finding the limit: 40.0 calls/s and rising (--rpm or --concurrency skips this)",
        ),
        ({"pace": 9.8}, "keeping to 9.8 calls/s, found by trying (--rpm or --concurrency skips this)"),
        ({}, "finding the limit on requests (--rpm or --concurrency skips this)"),
    ],
)
def test_a_slow_start_is_explained(changes: dict[str, object], shown: str) -> None:
    """A user would not know why it begins slowly, nor what ends that."""
    progress = busy(searched={"requests"}, **changes)
    assert shown in compose(progress, Speed(100.0), "", 200, WAYS)[1]


@pytest.mark.parametrize(
    ("changes", "shown"), [({"unpriced": 2}, "≥ $0.0123"), ({"cost": 0.0, "unpriced": 2}, "cost unknown")]
)
def test_an_unknown_cost_is_said(changes: dict[str, object], shown: str) -> None:
    """A user would take an unknown cost for none."""
    assert shown in compose(busy(**changes), Speed(100.0), "", 200, WAYS)[1]


def test_pauses_and_stops_come_first() -> None:
    """A user would wonder why nothing moves."""
    progress = busy(paused={"openai/gpt-5-mini": "rate limited, 12 s"}, stopped={"x/y": "the key\x1b[31m is wrong"})
    second = compose(progress, Speed(100.0), "", 200, WAYS)[1]
    assert second.startswith("x/y stopped: the key\\x1b[31m is wrong · openai/gpt-5-mini paused: rate limited, 12 s")


@pytest.mark.parametrize(("others_go", "shown"), [(False, "no; waits, Ctrl-C ends"), (True, "no; the others go on")])
def test_a_target_that_is_down_holds_up_a_run_only_if_it_is_the_last(others_go: bool, shown: str) -> None:
    """A user would end a run that goes on at its other target."""
    progress = busy(down={"a/m": "no"}, others_go=others_go, holds="requests")
    second = compose(progress, Speed(100.0), "", 200, WAYS)[1]
    assert shown in second
    assert ("waits for" in second) is others_go


def test_input_without_a_known_end_has_neither_percent_nor_time_left() -> None:
    """A made-up percentage would be shown for standard input."""
    first, _ = compose(busy(total=None), Speed(100.0), "", 200, WAYS)
    assert first == "1,234 done · 100 calls/s"


@given(st.integers(1, 120))
def test_narrow_terminals_get_the_most_important(width: int) -> None:
    """The live line would wrap, and scroll the terminal away."""
    for line in compose(busy(), Speed(100.0), "stopping", width, WAYS):
        assert len(line) <= width
    assert compose(busy(), Speed(100.0), "", 25, WAYS)[0] == "1,234/10,000 (12 %)"


def test_plain_lines_have_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Log files would be full of escape sequences."""
    progress = busy(paused={"x\x1b[2J": "bell\x07\x9b"})
    PlainLines(say, WAYS).show(progress, "stopping")
    said = capsys.readouterr().err
    assert said.endswith("stopping\n")
    assert "1,234/10,000 (12 %)" in said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said)


def test_a_log_of_a_day_in_batches_is_short() -> None:
    """A line of cron's log would have 17,000 lines a day that say that there is no answer yet."""
    said: list[str] = []
    lines = PlainLines(said.append, WAYS)
    progress = Progress(total=60, batches=Batches(open=2, rows=60, states="validating"))
    for second in range(0, 6 * 3_600, 5):
        progress.elapsed = float(second)
        if second == 600:
            progress.batches = Batches(open=2, rows=60, done=1, states="in progress")
        if second == 4 * 3_600:
            progress.batches, progress.answered = Batches(open=1, rows=30, states="in progress"), 30
        lines.show(progress)
    assert "validating" in said[0]
    assert 12 < len(said) < 30
    assert not any("no answer for" in line or "calls" in line for line in said)
    assert said[-1].startswith("30/60 (50 %), 1 batch with 30 rows, in progress")


def test_the_live_part_of_a_run_has_a_pace_again() -> None:
    """Rows that have left their batches would be said to have had no answer for a day."""
    pace, progress = Pace(), Progress(total=60, elapsed=80_000.0, batches=Batches(open=1, rows=60))
    assert pace.look(progress) == Speed(None)
    progress.batches, progress.elapsed, progress.in_flight = Batches(), 80_002.0, 5
    assert pace.look(progress).quiet == 0.0
    progress.answered, progress.elapsed = 10, 80_004.0
    assert pace.look(progress).rate == pytest.approx(2.5)


def test_nothing_kills_a_run_whose_terminal_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the terminal window would end the run in the middle."""

    class Gone(Terminal):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    for display in (PlainLines(say, WAYS), LiveLine(WAYS)):
        display.show(busy())
        display.close()
    monkeypatch.setattr(sys, "stderr", None)
    PlainLines(say, WAYS).show(busy())


def test_the_live_line_is_written_over_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal would fill up with old numbers, or keep its cursor hidden."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    display = LiveLine(WAYS)
    display.show(busy())
    display.show(busy(answered=2_000))
    display.close()
    display.show(busy(answered=3_000))
    said = terminal.getvalue()
    assert "2,234/10,000" in said
    assert "3,234/10,000" not in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_no_colours_when_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR would be ignored."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", terminal)
    display = LiveLine(WAYS)
    display.show(busy())
    display.close()
    assert not re.search(r"\x1b\[[\d;]*3\dm", terminal.getvalue())


def kind(*, err: bool, out: bool, **options: bool) -> type[object]:
    given = {"quiet": False, "plain": False, "answers_on_stdout": False, **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", Terminal() if err else io.StringIO())
        patch.setattr(sys, "stdout", Terminal() if out else io.StringIO())
        return type(choose(**given))


def test_the_display_fits_where_it_goes() -> None:
    """Escape sequences would get into pipes, or answers on the terminal be written over."""
    assert kind(err=True, out=True) is LiveLine
    assert kind(err=False, out=True) is PlainLines
    assert kind(err=True, out=True, plain=True) is PlainLines
    assert kind(err=True, out=True, answers_on_stdout=True) is PlainLines
    assert kind(err=True, out=False, answers_on_stdout=True) is LiveLine
    assert kind(err=True, out=True, quiet=True) is Silent


def test_simple_terminals_get_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emacs' shell would show escape sequences."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose(quiet=False, plain=False, answers_on_stdout=False), PlainLines)


def test_a_pause_says_how_to_end_it_with_the_runs_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could copy the command from the line."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    said: list[str] = []
    monkeypatch.setattr("flatout.cli.progress.say", said.append)
    choose("my mails.jsonl.flatout", quiet=False, plain=True, answers_on_stdout=False).show(busy(holds="paused"))
    assert "paused by you; flatout ctl 'my mails.jsonl' resume goes on" in said[0]


def test_the_time_between_plain_lines_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log would have a line every five seconds for a week."""
    monkeypatch.setenv("FLATOUT_PROGRESS_SECONDS", "60")
    assert choose(quiet=False, plain=True, answers_on_stdout=False).seconds == 60
    for wrong in ("x", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("FLATOUT_PROGRESS_SECONDS", wrong)
        with pytest.raises(ConfigError, match="FLATOUT_PROGRESS_SECONDS"):
            choose(quiet=False, plain=True, answers_on_stdout=False)


def test_the_rate_is_that_of_late() -> None:
    """A run that has become slow would show its old speed, and end an hour later than it says."""
    pace = Pace(window=10)
    rates = []
    done = 0
    for second in range(1, 61):
        done += 100 if second <= 30 else 10
        rates.append(pace.look(Progress(answered=done, elapsed=float(second))).rate)
    assert rates[28] == pytest.approx(100)
    assert rates[-1] == pytest.approx(10)


def test_a_rate_is_shown_only_when_there_is_one() -> None:
    """A run that has just begun would divide by zero, and a paused one show no time at all."""
    assert Pace().look(Progress()).rate is None
    pace = Pace(window=10)
    pace.look(Progress(answered=50, elapsed=5.0))
    pace.look(Progress(answered=50, elapsed=15.0))
    assert pace.look(Progress(answered=50, elapsed=25.0)).rate == pytest.approx(2.0)


def left_after(*seconds: tuple[int, int]) -> str:
    """What is said of 1,000 calls after so many seconds at so many calls each, and so on."""
    pace, speed, elapsed, done = Pace(window=10), Speed(None), 0.0, 0
    for many, each in seconds:
        for _ in range(many):
            elapsed, done = elapsed + 1, done + each
            speed = pace.look(Progress(answered=done, elapsed=elapsed))
    return speed.left(1_000)


def test_the_time_left_is_smooth_while_the_pace_is_steady() -> None:
    """It would jump by a half at each look, as answers come in bursts."""
    pace = Pace(window=10)
    told = []
    for second in range(1, 121):
        speed = pace.look(Progress(answered=20 * (second // 2), elapsed=float(second)))  # 20 at once, each other second
        told.append(speed.left(1_000))
    assert {line.partition(" s left")[0] for line in told[30:]} <= {str(seconds) for seconds in range(96, 106)} | {
        f"1 min {seconds:02}" for seconds in range(36, 47)
    }


def test_a_pace_that_swings_gives_a_range() -> None:
    """One time would be told that is right at no moment."""
    assert left_after((30, 100), (30, 20)) == "10 s to 50 s left"
    assert left_after((30, 100), (15, 0)) == "at least 10 s left"
    assert left_after((30, 100), (60, 20)) == "50 s left"  # it has been steady again for a minute


def test_a_few_slow_calls_are_no_swing() -> None:
    """Chance would be shown as a range from a minute to an hour."""
    pace, speed = Pace(window=10), Speed(None)
    for second, done in enumerate((0,) * 9 + (1,) * 10 + (1,) * 10 + (3,) * 10 + (4,) * 10):
        speed = pace.look(Progress(answered=done, elapsed=float(second)))
    assert " to " not in speed.left(100)
    assert speed.left(100).endswith(" left")


def test_the_last_calls_are_named_and_no_time_is_guessed() -> None:
    """``1.0 s left`` would stand there for five minutes, and nothing say which rows hang, and until when."""
    tail = {"total": 1_236, "in_flight": 2, "longest": Longest(row=97, seconds=62.0, left=238.0)}
    first, _ = compose(busy(**tail), Speed(100.0), "", 200, WAYS)
    assert first.endswith("100 calls/s · row 97 waits 1 min 02 s (timeout in 3 min 58 s)")
    first, _ = compose(busy(**tail), Speed(100.0, quiet=45.0), "", 200, WAYS)
    assert first.endswith("(99 %) · no answer for 45 s · row 97 waits 1 min 02 s (timeout in 3 min 58 s)")
    first, _ = compose(Progress(total=50, answered=50), Speed(None, quiet=45.0), "reckons the plan", 200, WAYS)
    assert first.endswith("50/50 (100 %)")
    tail["longest"] = Longest(row=97, seconds=0.5, left=299.5)
    assert compose(busy(**tail), Speed(100.0), "", 200, WAYS)[0].endswith("(99 %) · 100 calls/s")


def test_a_long_silence_is_told() -> None:
    """A server that hangs in the middle of a run would look like one that is as fast as before."""
    pace = Pace(window=10)
    quiet = [pace.look(Progress(answered=min(second, 20) * 10, elapsed=float(second))).quiet for second in range(1, 41)]
    assert quiet[:29] == [0.0] * 29
    assert quiet[-1] == 20.0
    slow = Pace(window=10)  # one answer in 30 s is no silence, where that is the usual pace
    assert all(
        slow.look(Progress(answered=second // 30, elapsed=float(second))).quiet == 0.0 for second in range(31, 90)
    )


def test_an_outage_is_no_pace() -> None:
    """The time left would be told by minutes in which nothing could be answered, long after they are over."""
    pace, done = Pace(window=10), 0
    for second in range(1, 121):
        down = {"s": "refused"} if 30 < second <= 90 else {}
        done += 0 if down or second == 91 else 100
        speed = pace.look(Progress(answered=done, elapsed=float(second), down=down))
        if 30 < second <= 91:
            assert speed.rate is None
    assert speed.left(10_000) == "1 min 43 s left"


def test_while_most_attempts_fail_no_end_is_promised() -> None:
    """A server with an hour of trouble would make a run of ten minutes look like one of a day, and long after it."""
    pace, done, lost, told = Pace(window=10), 0, 0, []
    for second in range(1, 121):
        bad = 30 < second <= 90
        done, lost = done + (1 if bad else 100), lost + (9 if bad else 0)
        progress = Progress(total=20_000, answered=done, retries=lost, elapsed=float(second), holds="requests")
        told.append(compose(progress, pace.look(progress), "", 200, WAYS)[0])
    assert told[29].endswith("100 calls/s · 2 min 50 s left")
    assert told[88].endswith("1.0 calls/s · 90 % of the attempts fail")
    assert not any(line.endswith("left") for line in told[44:98])
    assert told[-1].endswith("100 calls/s · 2 min 19 s left")


def test_refused_attempts_use_the_limit_too() -> None:
    """The line would promise the end earlier than ``flatout watch`` does, and than it comes."""
    pace = Pace(window=10)
    for second in range(1, 31):
        speed = pace.look(Progress(answered=second * 8, retries=second * 2, throttled=second, elapsed=float(second)))
    assert speed.ends == pytest.approx(0.8)


def test_a_target_that_is_down_leaves_the_others_their_pace() -> None:
    """A run that goes on with its other targets would show neither its speed nor its end."""
    pace, down = Pace(), {"s": "refused"}
    for second in range(1, 31):
        speed = pace.look(Progress(answered=second * 5, elapsed=float(second), down=down, others_go=True))
    assert speed.left(100) == "20 s left"


def test_watching_refreshes_before_it_shows() -> None:
    """The live line would show the numbers of the time before."""
    progress = Progress()
    shown: list[tuple[float, str]] = []

    class Watched(Silent):
        seconds = 0.0

        def show(self, progress: Progress, note: str = "") -> None:
            shown.append((progress.elapsed, note))

    def refresh() -> None:
        progress.elapsed += 1

    async def run() -> None:
        enough = asyncio.Event()

        def note() -> str:
            if len(shown) >= 2:
                enough.set()
            return "note"

        watcher = asyncio.ensure_future(watch(refresh, progress, Watched(), note))
        await enough.wait()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

    asyncio.run(run())
    assert shown[:2] == [(1.0, "note"), (2.0, "note")]


def test_the_time_left_is_that_of_the_limit_that_binds() -> None:
    """After the burst that a bucket allows, the line would promise the end in seconds; while paused, any end at all."""
    now = TargetNow(in_flight=0, waiting=9, holds="requests", pace=None, limits={"rpm": 600.0})
    line = compose(busy(in_flight=0, targets={"m": now}), Speed(100.0), "", 200, WAYS)[0]
    assert "14 min 37 s left" in line
    line = compose(busy(in_flight=0, targets={"m": now}), Speed(100.0, ends=0.8), "", 200, WAYS)[0]
    assert "18 min 16 s left" in line  # retries count against the limit, too
    assert "left" not in compose(busy(in_flight=0, holds="paused"), Speed(100.0), "", 200, WAYS)[0]
    tokens = TargetNow(in_flight=0, waiting=9, holds="tokens", pace=None, limits={"rpm": 6_000.0, "tpm": 72_000.0})
    bound = busy(in_flight=0, holds="tokens", answered=1_000, failed=0, targets={"m": tokens})
    assert "14 min 40 s left" not in compose(bound, Speed(5.0), "", 200, WAYS)[0]  # less goes than the limit allows
    assert compose(bound, Speed(100.0), "", 200, WAYS)[0].endswith("15 min 05 s left")


def test_the_limit_that_binds_is_named_and_no_share_of_it() -> None:
    """A line that says 98 % used would deny the rate beside it, of a program that is late."""
    now = TargetNow(in_flight=0, waiting=9, holds="requests", pace=None, limits={"rpm": 600.0})
    line = compose(busy(targets={"m": now, "n": now}), Speed(2.0), "", 200, WAYS)[1]
    assert "waits for requests per minute (limit 1,200)" in line
    assert "used" not in line


def test_a_full_server_is_shown_with_the_number_of_calls_that_it_may_have() -> None:
    """The line would say that 100 % of a limit are used, and not which: there are always as many as may be."""
    now = TargetNow(in_flight=8, waiting=9, holds="concurrency", pace=None, limits={"concurrency": 8.0})
    line = compose(busy(holds="concurrency", targets={"m": now}), Speed(2.0), "", 200, WAYS)[1]
    assert "(limit 8)" in line


def test_the_time_left_of_a_run_that_shares_its_limit_is_that_of_its_own_pace() -> None:
    """A run that gets a quarter of its team's limit would promise to end in a quarter of its time."""
    now = TargetNow(in_flight=0, waiting=9, holds="requests", pace=None, limits={"rpm": 600.0}, shared=True)
    assert "29 min 13 s left" in compose(busy(in_flight=0, targets={"m": now}), Speed(5.0), "", 200, WAYS)[0]


def test_texts_that_are_embedded_are_no_calls() -> None:
    """A request with a thousand texts would count as a thousand, and the limit of requests tell a false end."""
    now = TargetNow(in_flight=0, waiting=9, holds="requests", pace=None, limits={"rpm": 6.0})
    line = compose(busy(in_flight=0, counts="text", targets={"m": now}), Speed(100.0), "", 200, WAYS)[0]
    assert line.endswith("100 texts/s · 1 min 28 s left")


def test_rows_that_failed_before_are_told() -> None:
    """Whoever goes on with a run would take it for flawless until the end."""
    assert "34 failed · 3 failed before" in compose(busy(failed_before=3), Speed(None), "", 200, WAYS)[1]


def test_a_budget_that_ends_first_is_told() -> None:
    """The line would promise the end of a run whose money is gone long before."""
    standing = Standing("$1", 0.5, 0.0, 0.0)
    spent = busy(in_flight=0, answered=100, failed=0, cost=0.5, budget=standing)
    line = compose(spent, Speed(100.0), "", 200, WAYS)[0]
    assert line.endswith("the budget lasts for about 100 rows more")
    enough = busy(in_flight=0, answered=100, failed=0, cost=0.5, budget=Standing("$100", 99.5, 0.0, 0.0))
    assert compose(enough, Speed(100.0), "", 200, WAYS)[0].endswith(" left")
    unknown = busy(in_flight=0, answered=100, failed=0, cost=0.5, budget=standing, unpriced=1)
    assert compose(unknown, Speed(100.0), "", 200, WAYS)[0].endswith(" left")


def test_that_there_is_no_room_is_said_once() -> None:
    """The second line has room for few facts, and would say one of them twice."""
    told = compose(busy(holds="room", no_room={"m@flex": 0.0}), Speed(100.0), "", 300, WAYS)[1]
    assert told.count("room") == 1


def test_a_row_that_somebody_skipped_has_not_failed() -> None:
    """A user who skips a row would look for what went wrong."""
    failures = {"Skipped": Failure(1, "skipped by ada", 3, "nothing")}
    progress = busy(failed=1, failures=failures)
    second = compose(progress, Speed(100.0), "", 200, WAYS)[1]
    assert "1 skipped" in second
    assert "failed" not in second
    assert failed_or_skipped(3, failures) == ["2 failed", "1 skipped"]
    assert failed_or_skipped(0, {}) == []
