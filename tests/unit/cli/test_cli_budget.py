"""Budgets that processes share, on the command line: ``flatout budget``, and what status and summary say of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flatout.cli import execute, main
from flatout.cli.budget import _facts
from flatout.cli.run import _when
from flatout.progress import Progress
from flatout.progress._counters import Failure
from flatout.testing import Faults, ProviderModel, ProviderSettings, SimulatedTransport
from flatout.values.accounts import Account, Lent
from flatout.values.budget import Standing

TO = ["-m", "m", "--base-url", "http://127.0.0.1:1/v1", "--param", "max_tokens=20"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ProviderModel(ProviderSettings(latency=0.0, output_tokens=10))
    monkeypatch.setattr("flatout.transports.http.HttpTransport", lambda **_: SimulatedTransport(model))
    monkeypatch.setattr(execute, "tune_collector", lambda: None)
    monkeypatch.setattr(execute, "allow_many_files", lambda: None)
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"prompt": f"{n}"}) + "\n" for n in range(3)))
    Path("flatout.toml").write_text('[prices."127.0.0.1:1/m"]\ninput = 0\noutput = 1000\n')


def accounts(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    capsys.readouterr()
    assert main(["budget", "ls", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_left_of_a_shared_budget_is_shown(capsys):
    """Users would have to add up the runs of a day themselves."""
    assert main(["budget", "ls"]) == 0
    assert "No budget is shared" in capsys.readouterr().out
    assert main(["run", "in.jsonl", "-o", "out.jsonl", *TO, "--budget", "2/day:team"]) == 0
    said = capsys.readouterr().err
    (account,) = accounts(capsys)
    assert (account["per"], account["scope"], account["usd"], account["lent"]) == ("day", "team", 2.0, [])
    assert 0 < account["spent"] <= 0.06
    words = f"${account['left']:.2f} of $2 a day (team) left"
    assert words in said
    assert main(["budget", "ls"]) == 0
    listed = capsys.readouterr().out
    assert words in listed
    assert "until" in listed
    assert main(["budget", "set", "day:team", "--spent", "1.5"]) == 0
    assert "$0.5000 of $2 a day (team) left" in capsys.readouterr().err
    assert main(["status", "out.jsonl"]) == 0
    assert "$0.5000 of $2 a day (team) left" in capsys.readouterr().out


def test_a_keys_budget_is_shown_before_it_is_used(capsys):
    """A user who has just given a key a budget would read that no budget exists."""
    assert main(["serve", "key", "add", "team-c", "--budget", "0.5/day"]) == 0
    (account,) = accounts(capsys)
    assert (account["scope"], account["spent"], account["left"]) == ("key team-c", 0.0, 0.5)
    assert main(["run", "in.jsonl", "-o", "out.jsonl", *TO, "--budget", "0.5/day:key team-c"]) == 0
    (account,) = accounts(capsys)
    assert account["spent"] > 0


def test_status_knows_what_the_summary_knew(capsys, monkeypatch):
    """An attempt that broke off has an unknown cost. The answer that its row then got would be left out of the sum."""
    model = ProviderModel(ProviderSettings(latency=0.0, output_tokens=10, faults=Faults(reset=0.3)), 3)
    monkeypatch.setattr("flatout.transports.http.HttpTransport", lambda **_: SimulatedTransport(model))
    Path("in.jsonl").write_text("".join(json.dumps({"prompt": f"{n}"}) + "\n" for n in range(12)))
    assert main(["run", "in.jsonl", "-o", "out.jsonl", *TO]) in (0, 1)
    said = re.search(r"cost +(at least \$[0-9.]+), and \d+ attempts? of unknown cost", capsys.readouterr().err)
    assert said is not None
    assert main(["status", "out.jsonl"]) == 0
    assert f"{said[1]}, and " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["week:team", "--spent", "1"], "a budget is day:NAME, month:NAME or run:NAME"),
        (["day", "--spent", "nan"], "invalid value for '--spent'"),
        (["day:other", "--spent", "1"], "nobody has borrowed from a budget day:other"),
    ],
)
def test_a_budget_that_is_none_is_not_set(capsys, wrong, said):
    """A misspelt name would make a budget that nobody uses, and the real one stay as it is."""
    assert main(["budget", "set", *wrong]) == 2
    assert said in capsys.readouterr().err


def test_what_a_worker_has_used_of_its_loan_is_shown():
    """Money is being spent for an hour, and "spent $0" is all that is to be seen."""
    told = Lent("a", 0.04, None, None, True, "host:1", 0.02)
    silent = Lent("b", 0.04, 4711, None, True)
    one, both = (Account("day", "team", 1.0, 0.0, lent, None) for lent in ((told,), (told, silent)))
    assert _facts(one) == [("spent", "$0"), ("lent", "$0.0400 to host:1, $0.0200 of it spent or in flight")]
    assert _facts(both)[0] == ("spent", "$0; what is spent of the sums below is known when their processes end")


def test_an_address_of_the_web_is_no_run(capsys):
    """Somebody would look for a folder "http:"."""
    assert main(["status", "http://127.0.0.1:7415"]) == 2
    assert "ask a gateway itself how it stands, with curl http://127.0.0.1:7415/status" in capsys.readouterr().err


def test_what_must_change_before_a_run_without_money_goes_on_is_said():
    """The command that is offered would end at once, for want of money."""
    standing = Standing("$1 a day (team)", 0.0, 0.0, 0.0, per="day", scope="team")
    progress = Progress()
    assert _when(progress) == ""
    progress.budget, progress.failures["BudgetExceeded"] = standing, Failure(1, "", 1, "")
    assert _when(progress) == ", with a larger --budget, or when the day ends (UTC)"
    progress.budget = Standing("$1", 0.0, 0.0, 0.0)
    assert _when(progress) == ", with a larger --budget"
