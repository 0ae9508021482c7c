"""``--prompt-cache auto`` over HTTP: the markers arrive, one row goes first, and the savings are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flatout.testing import Faults
from tests.support.command_samples import PLENTY, provider, rows_of
from tests.support.quick_commands import flatout

RULES = " ".join(f"Rule {number}: a mail about item {number} goes to team {number % 7}." for number in range(250))
PRICE = {"input": 1.0, "output": 2.0, "cache_read": 0.1, "cache_write": 1.25}
KEY = {"SIM_API_KEY": "k"}


def prepare(folder: Path, url: str, like: str, rows: int, name: str = "in.jsonl") -> None:
    """An input, and a flatout.toml whose endpoint is the simulator, in the format of a provider."""
    prices = "\n".join(f"{kind} = {price}" for kind, price in PRICE.items())
    (folder / "flatout.toml").write_text(
        f'model = "sim/gpt-5.6"\n[endpoints.sim]\nprovider = "{like}"\nbase_url = "{url}"\nkey_env = "SIM_API_KEY"\n'
        f'[prices."sim/gpt-5.6"]\n{prices}\n'
    )
    (folder / name).write_text("".join(json.dumps({"text": f"mail {row}"}) + "\n" for row in range(rows)))


def run(folder: Path, *more: str):
    given = ("run", "in.jsonl", "-o", "out.jsonl", "--system", RULES, "--prompt", "Which team? {{ text }}", *PLENTY)
    return flatout(*given, "--config", "flatout.toml", *more, folder=folder, env=KEY)


@pytest.mark.parametrize("like", ["anthropic", "openai"])
def test_rows_with_common_rules_are_read_from_the_cache(tmp_path: Path, like: str) -> None:
    """What holds on the virtual clock would not hold for the command and a server."""
    with provider(prompt_cache="breakpoints", prompt_cache_rpm=None) as sim:
        prepare(tmp_path, sim.url, like, 60)
        done = run(tmp_path, "--prompt-cache", "auto")
        counts = sim.stats()
    assert done.code == 0, done.err
    assert counts["cached_tokens"] > 0.9 * counts["prompt_tokens"] * (44 / 60)
    assert counts["received"] == 60
    assert "from cache" in done.err
    assert "saved $" in done.err
    status = flatout("status", "out.jsonl", folder=tmp_path)
    assert "from cache" in status.out
    facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
    assert facts["prompt_cache"]["read"] == counts["cached_tokens"]
    assert facts["prompt_cache"]["saved"] == pytest.approx(
        (0.9 * counts["cached_tokens"] - 0.25 * counts["cache_write_tokens"]) / 1e6
    )
    assert facts["cost"] < 0.6 * counts["prompt_tokens"] / 1e6


def test_without_it_nothing_is_marked(tmp_path: Path) -> None:
    """People would find markers in their requests that they did not ask for."""
    with provider(prompt_cache="breakpoints") as sim:
        prepare(tmp_path, sim.url, "anthropic", 5)
        done = run(tmp_path)
        counts = sim.stats()
    assert done.code == 0, done.err
    assert (counts["cached_tokens"], counts["cache_write_tokens"]) == (0, 0)
    assert "from cache" not in done.err


def test_a_continued_run_shows_what_all_its_processes_saved(tmp_path: Path) -> None:
    """The second process's share would be taken for the whole."""
    with provider(prompt_cache="breakpoints") as sim:
        prepare(tmp_path, sim.url, "anthropic", 40)
        assert run(tmp_path, "--prompt-cache", "auto", "--limit", "20").code == 0
        assert run(tmp_path, "--prompt-cache", "auto").code == 0
        counts = sim.stats()
    facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
    assert facts["prompt_cache"]["read"] == counts["cached_tokens"]


def test_workers_show_what_they_saved_together(tmp_path: Path) -> None:
    """With several workers the summary would show nothing, or one worker's part."""
    with provider(prompt_cache="breakpoints") as sim:
        prepare(tmp_path, sim.url, "anthropic", 60)
        done = run(tmp_path, "--prompt-cache", "auto", "--workers", "2")
        counts = sim.stats()
    assert done.code == 0, done.err
    facts = json.loads(flatout("status", "out.jsonl", "--json", folder=tmp_path).out)
    assert facts["prompt_cache"]["read"] == counts["cached_tokens"] > 0


def test_flatout_toml_can_ask_for_it(tmp_path: Path) -> None:
    """Teams would have to write the option with every command."""
    with provider(prompt_cache="breakpoints", faults=Faults(server_error=0.1)) as sim:
        prepare(tmp_path, sim.url, "anthropic", 40)
        settings = tmp_path / "flatout.toml"
        settings.write_text('prompt_cache = "auto"\n' + settings.read_text())
        assert run(tmp_path).code == 0
        assert sim.stats()["cached_tokens"] > 0
        assert all(row["answer"] for row in rows_of(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(("--prompt-cache", "on"), "'on' is not one of 'auto', 'off'"), (("--prompt-cache",), "requires an argument")],
)
def test_bad_input_is_a_sentence(tmp_path: Path, arguments, why) -> None:
    """A traceback would not say what to write."""
    prepare(tmp_path, "http://127.0.0.1:9/v1", "anthropic", 1)
    done = run(tmp_path, *arguments)
    assert done.code == 2
    assert why in done.err
