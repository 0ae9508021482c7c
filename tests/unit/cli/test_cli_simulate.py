from __future__ import annotations

from typing import Any

import pytest

from flatout.cli import main
from flatout.cli.simulate import changes, span, statistics
from flatout.errors import ConfigError
from flatout.testing import BatchSettings, Faults, ProviderModel, ProviderSettings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be served, without a server."""
    given: list[Any] = []

    def serve(*arguments: Any) -> dict[str, Any]:
        given.extend(arguments)
        return ProviderModel(arguments[0]).stats()

    monkeypatch.setattr("flatout.cli.simulate._serve", serve)
    return given


def test_without_options_it_answers_everything(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The simplest command would simulate something else than the library's own default."""
    assert main(["simulate"]) == 0
    assert served == [ProviderSettings(), "127.0.0.1", 8100, 0]
    assert capsys.readouterr().err.startswith("flatout: 0 received, 0 answered")


def test_every_option_reaches_the_provider(served: list[Any]) -> None:
    """An option would be accepted and do nothing."""
    limits = "--rpm 10k --tpm 2M --limit-kind sliding --burst 2 --concurrency 8"
    service = (
        "--latency 0.2 --latency-p99 3 --first-token 0.1 --headers openai --key k --seed 7 --host 127.0.0.2 --port 0 "
        "--prompt-cache prefix"
    )
    change = "--change 60:rpm=300 --change 30:slots=none --outage 5:8.5"
    faults = "--error-429 1% --error-500 0.02 --error-503 3% --error-400 4% --reset 5%"
    more = "--hang 6% --truncate 7% --malformed 8% --empty 9% --stall 10% --late-error 11% --misfit 12%"
    batches = "--batch-time 10 --batch-window 60 --batch-tokens 2M"
    assert main(["simulate", *f"{limits} {service} {change} {faults} {more} {batches}".split()]) == 0
    settings, *where = served
    assert where == ["127.0.0.2", 0, 7]
    assert settings == ProviderSettings(
        rpm=10_000,
        tpm=2_000_000,
        limit="sliding",
        burst=2,
        slots=8,
        latency=0.2,
        latency_p99=3,
        first_token=0.1,
        headers="openai",
        prompt_cache="prefix",
        key="k",
        changes=((30, {"slots": None}), (60, {"rpm": 300})),
        outage=(5, 8.5),
        faults=Faults(
            rate_limited=0.01,
            server_error=0.02,
            overloaded=0.03,
            invalid=0.04,
            reset=0.05,
            hang=0.06,
            truncated=0.07,
            malformed=0.08,
            empty=0.09,
            stall=0.1,
            late_error=0.11,
            schema=0.12,
        ),
        batch=BatchSettings(time=10, validating=1, finalizing=1, window=60, enqueued_tokens=2_000_000),
    )


def test_the_mix_has_every_fault_and_single_ones_win_over_it(served: list[Any]) -> None:
    """`--faults` would leave a kind of failure untried."""
    assert main(["simulate", "--faults", "--hang", "0"]) == 0
    faults = served[0].faults
    assert faults.hang == 0
    assert all(getattr(faults, name) > 0 for name in faults.__struct_fields__ if name != "hang")


def test_the_mix_of_batches_has_every_fault(served: list[Any]) -> None:
    """`--batch-faults` would leave a kind of failure untried."""
    assert main(["simulate", "--batch-faults"]) == 0
    faults = served[0].batch.faults
    assert all(getattr(faults, name) > 0 for name in faults.__struct_fields__)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--headers", "nonsense"], "no dialect is called 'nonsense'"),
        (["--change", "60"], "--change takes"),
        (["--change", "x:rpm=3"], "--change counts seconds"),
        (["--change", "5:nonsense=3"], "not nonsense"),
        (["--change", "5:rpm=fast"], "--change rpm is a number"),
        (["--outage", "5"], "--outage takes"),
        (["--outage", "8:5"], "--outage takes"),
        (["--error-500", "60%", "--error-503", "60%"], "more than 1"),
        (["--latency", "-1"], "latency must not be negative"),
        (["--first-token", "-1"], "first_token must not be negative"),
        (["--limit-kind", "odd"], "--limit-kind"),
        (["--port", "70000"], "--port"),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str], why: str, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error would simulate something else."""
    assert main(["simulate", *arguments]) == 2
    assert why in capsys.readouterr().err
    assert served == []


def test_a_port_that_is_taken_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A second simulator would end in a traceback."""

    async def taken(*_: object) -> None:
        raise OSError(98, "error while attempting to bind on address …")

    monkeypatch.setattr("flatout.testing.serve", taken, raising=False)
    assert main(["simulate", "--port", "8100"]) == 2
    assert (
        capsys.readouterr().err
        == "flatout: cannot listen at 127.0.0.1:8100: Address already in use; try another --port\n"
    )


def test_changes_are_in_order_of_time() -> None:
    """Changes that were typed in another order would be skipped."""
    assert [at for at, _ in changes(["9:rpm=1", "3:rpm=2"])] == [3, 9]
    assert changes(["3:latency-p99=2"]) == ((3, {"latency_p99": 2}),)


def test_an_outage_ends_after_it_began() -> None:
    """An outage would never happen, and nobody would know why."""
    assert span(None) is None
    assert span("0:1") == (0, 1)
    with pytest.raises(ConfigError):
        span("1:1")


def test_the_last_line_tells_what_the_provider_saw() -> None:
    """A user would not learn whether limits were hit or prompts paid twice."""
    counts = {
        **ProviderModel(ProviderSettings()).stats(),
        "received": 1_200,
        "answered": 1_000,
        "refused": 3,
        "duplicates": 2,
        "faults": {"reset": 5},
        "prompt_tokens": 20_000,
        "most_in_flight": 64,
    }
    assert statistics(counts) == (
        "flatout: 1,200 received, 1,000 answered, 3 refused for their rate or number, 5 × reset, "
        "2 answered more than once, 20.0k tokens, 64 in flight at most"
    )
