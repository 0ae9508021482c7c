"""``--cache``, ``--reuse`` and ``flatout cache``, in this process."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flatout import Call
from flatout.cli import execute, main
from flatout.durable import reuse
from flatout.store import RunReader
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.command_samples import PLENTY

TO = ["-m", "m", "--base-url", "http://127.0.0.1:1/v1"]


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProviderModel:
    model = ProviderModel(ProviderSettings(latency=0.0))
    monkeypatch.setattr("flatout.transports.http.HttpTransport", lambda **_: SimulatedTransport(model))
    monkeypatch.setattr(execute, "tune_collector", lambda: None)
    monkeypatch.setattr(execute, "allow_many_files", lambda: None)
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.chdir(tmp_path)
    return model


def run(prompts: list[str], output: str, *options: str) -> None:
    Path("in.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    assert main(["run", "in.jsonl", "-o", output, *TO, *options]) == 0


SCHEMA = '{"type": "object", "properties": {"a": {"type": "%s"}}, "required": ["a"], "additionalProperties": false}'


def rows(output: str) -> list[dict]:
    return [json.loads(line) for line in Path(output).read_text().splitlines()]


def test_an_edited_input_pays_for_what_changed(provider, capsys):
    """One edited row would mean paying for all again."""
    run(["a", "b", "c"], "out.jsonl", "--cache")
    asked = provider.stats()["received"]
    assert "cached" not in rows("out.jsonl")[0]
    capsys.readouterr()
    run(["a", "new", "b", "c"], "out.jsonl", "--cache", "--fresh")
    assert provider.stats()["received"] == asked + 1
    assert [row["cached"] for row in rows("out.jsonl")] == [True, False, True, True]
    said = capsys.readouterr().err
    assert "4 answered (3 from the cache)" in said
    assert "cached      3 answers" in said
    assert main(["status", "out.jsonl"]) == 0
    assert "cached      3 answers" in capsys.readouterr().out
    assert main(["trace", "out.jsonl", "1"]) == 0
    assert "answered · from the cache" in capsys.readouterr().out
    assert main(["trace", "out.jsonl", "2"]) == 0
    assert "from the cache" not in capsys.readouterr().out


def test_a_changed_input_is_told_of_the_cache(provider, capsys):
    """Somebody who has paid for a million rows would not learn that they can be used again."""
    run(["a"], "out.jsonl")
    Path("in.jsonl").write_text('{"prompt": "b"}\n')
    assert main(["run", "in.jsonl", "-o", "out.jsonl", *TO]) == 2
    assert "--reuse" in capsys.readouterr().err


def test_an_earlier_run_is_used_as_a_cache(provider):
    """Without a cache, everything would be paid for again."""
    run(["a", "b"], "out.jsonl")
    asked = provider.stats()["received"]
    run(["new", "a", "b"], "more.jsonl", "--reuse", "out.jsonl")
    assert provider.stats()["received"] == asked + 1
    assert [row["cached"] for row in rows("more.jsonl")] == [False, True, True]


def test_what_an_answer_once_cost_is_unknown_where_a_run_had_it_from_a_cache(provider):
    """An answer that was paid for would be told to have cost nothing, however often it is used again."""
    run(["a"], "out.jsonl")
    run(["a"], "again.jsonl", "--reuse", "out.jsonl")
    with closing(RunReader.open("again.jsonl.flatout")) as reader:
        item = reader.item(0)
    assert item is not None
    assert item.cost == 0.0  # of that run
    kept = reuse.kept_of(item, Call("a"))
    assert kept is not None
    assert kept.cost is None


def test_a_run_is_not_its_own_cache(provider, capsys):
    """Continued after an interrupt, it would look for its answers in the file that has none, and pay again."""
    run(["a", "b"], "out.jsonl")
    Path("in.jsonl").write_text('{"prompt": "b"}\n')
    assert main(["run", "in.jsonl", "-o", "out.jsonl", *TO, "--reuse", "out.jsonl", "--fresh"]) == 2
    assert "is this run itself" in capsys.readouterr().err
    assert len(rows("out.jsonl")) == 2


def test_why_names_the_first_field_that_differs(provider, capsys):
    """A cache that misses could not be told from one that does not work."""
    run(["a", "b"], "one.jsonl", "--cache=a.cache")
    run(["a", "b"], "two.jsonl", "--cache", "a.cache", "--param", "temperature=0.5")
    capsys.readouterr()
    assert main(["cache", "why", "two.jsonl", "2", "--cache", "a.cache"]) == 0
    assert "differs in temperature: was not set, is now 0.5" in capsys.readouterr().out
    run(["b"], "three.jsonl", "--cache", "a.cache")
    capsys.readouterr()
    assert main(["cache", "why", "three.jsonl", "1", "--cache", "a.cache"]) == 0
    assert "was answered from a cache" in capsys.readouterr().out


def test_why_compares_with_the_question_that_is_most_alike(provider, capsys):
    """Somebody who changed one word would be shown another row's question, of which all words differ."""
    like = "Is this mail spam? Dear customer, your parcel {} at the station. Answer with yes or no."
    run([like.format("waits"), "Name the capital of France.", "Is this ham?"], "one.jsonl", "--cache=a.cache")
    rows = ({"id": f"mail-{place}", "prompt": like.format(word)} for place, word in enumerate(["waits", "rests"]))
    Path("in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main(["run", "in.jsonl", "-o", "two.jsonl", *TO, "--cache", "a.cache"]) == 0
    capsys.readouterr()
    for row in ("2", "mail-1"):
        assert main(["cache", "why", "two.jsonl", row, "--cache", "a.cache"]) == 0
        said = capsys.readouterr().out
        assert "waits at" in said
        assert "rests at" in said


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (["--param", "temperature=0.5"], ["--param", "temperature=0.7"], "differs in temperature: was 0.5, is now 0.7"),
        (["--system", "Be brief."], ["--system", "Be long."], 'differs in system: was "Be brief.", is now "Be long."'),
        ([], ["--param", "reasoning_effort=low"], 'differs in reasoning_effort: was not set, is now "low"'),
        (["--param", "top_k=1"], ["--param", "top_k=2"], "differs in extra.top_k: was 1, is now 2"),
        ([], ["-m", "other"], 'differs in model: was "m", is now "other"'),
        ([], ["--base-url", "http://127.0.0.1:1/v2"], 'differs in server: was "127.0.0.1/v1", is now "127.0.0.1/v2"'),
        ([], ["--base-url", "http://127.0.0.1:2/v1"], "came from another port of this machine"),
        (["--schema", "string.json"], ["--schema", "integer.json"], "differs in output.properties.a.type"),
        (["--prompt", "Is {{ prompt }} spam?"], ["--prompt", "Is {{ prompt }} ham?"], "differs in prompt"),
        (["--prompt", "long " * 99], ["--prompt", "long " * 99 + "end"], "prompt, after its first 160 characters"),
        ([], ["--prompt", "long " * 99], 'differs in prompt: was "a", is now "long long'),
        (["--param", "max_tokens=1"], ["--param", "max_tokens=1"], "cut off at the token limit, and such answers"),
    ],
)
def test_why_tells_a_stranger_what_is_different(provider, capsys, before, now, said):
    """A user would search for the reason in two files of a thousand rows."""
    Path("in.jsonl").write_text('{"prompt": "a"}\n')
    for kind in ("string", "integer"):
        Path(f"{kind}.json").write_text(SCHEMA % kind)

    def ask(output: str, options: list[str]) -> None:
        to = [*TO, "--same-prompt"]
        for option in ("-m", "--base-url"):
            if option in options:
                del to[to.index(option) : to.index(option) + 2]
        assert main(["run", "in.jsonl", "-o", output, *to, *options, "--cache"]) in (0, 1)

    ask("before.jsonl", before)
    ask("now.jsonl", now)
    assert provider.stats()["received"] >= 2
    capsys.readouterr()
    assert main(["cache", "why", "now.jsonl", "1"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_why_looks_into_the_cache_of_the_run(provider, capsys, monkeypatch, tmp_path):
    """Users would read of another cache, or that the run had none."""
    run(["a"], "before.jsonl", "--cache", "a.cache")
    run(["b"], "out.jsonl", "--cache", "a.cache")
    run(["b"], "without.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["cache", "why", "../out.jsonl", "1"]) == 0
    assert 'differs in prompt: was "a", is now "b"' in capsys.readouterr().out
    assert main(["cache", "why", "../without.jsonl", "1"]) == 0
    assert "the run had no cache" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("had", "status", "said"),
    [(None, 0, "does not say which cache"), ("redis://host/0/team", 2, "add --cache redis://host/0/team")],
)
def test_why_asks_no_server_that_a_file_names(provider, capsys, had, status, said):
    """A run file from somebody else would have a password sent to any server, or hide what is compared."""
    run(["a"], "out.jsonl", "--cache")
    with closing(sqlite3.connect("out.jsonl.flatout")) as connection, connection:
        connection.execute("UPDATE facts SET value = ? WHERE name = 'cache'", (json.dumps(had),))
    assert main(["cache", "why", "out.jsonl", "1"]) == status
    told = capsys.readouterr()
    assert said in " ".join((told.out + told.err).split())


def test_the_cache_is_listed_exported_and_pruned(provider, capsys):
    """Nobody could see what is kept, or get rid of it."""
    run(["a", "b"], "out.jsonl", "--cache", "a.cache", "--quiet")
    assert main(["cache", "ls", "a.cache"]) == 0
    assert "a.cache: 2 answers" in capsys.readouterr().out
    assert main(["cache", "export", "a.cache", "-o", "kept.jsonl"]) == 0
    assert {row["asked"]["prompt"] for row in rows("kept.jsonl")} == {"a", "b"}
    assert main(["cache", "export", "a.cache", "-o", "kept.jsonl"]) == 2
    assert main(["cache", "prune", "a.cache", "--older-than", "1h"]) == 0
    assert main(["cache", "prune", "a.cache"]) == 2  # a typing slip would remove what was paid for
    assert main(["cache", "prune", "a.cache", "--all"]) == 0
    assert "removed 2 answers from a.cache; 0 left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cache", "ls", "nothing.cache"], "there is no cache nothing.cache"),
        (["cache", "ls", "in.jsonl"], "it is no database"),
        (["cache", "prune", "in.jsonl", "--older-than", "soon"], "--older-than is a time"),
        (["cache", "why", "nothing.jsonl", "1"], "there is no run file"),
        (["cache", "why", "done.jsonl", "2"], "there is no row 2: the run has 1 row"),
        (["cache", "why", "done.jsonl", "mail-1"], "no finished row has the id mail-1"),
        (["run", "in.jsonl", *TO, "--cache", "in.jsonl"], "it is no database"),
        (["run", "in.jsonl", *TO, "--reuse", "in.jsonl"], "is not a run file"),
        (["run", "in.jsonl", *TO, "--cache", "--cache-max-age", "soon"], "cache_max_age is a time"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(provider, capsys, words, told):
    """A wrong name would end in a traceback, or in a paid run without its cache."""
    run(["a"], "done.jsonl")
    capsys.readouterr()
    Path("in.jsonl").write_text('{"prompt": "a long enough text to be no database"}\n' * 20)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


COMMANDS = (["ls"], ["export"], ["prune", "--all"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("harm", ["cut", "pages", "columns", "link", "empty"])
def test_a_damaged_cache_is_one_sentence(provider, capsys, command, harm):
    """Somebody whose disk failed would get a traceback, and not learn what to do."""
    run([f"question {number}" for number in range(300)], "out.jsonl", *PLENTY, "--cache", "answers.cache")
    file = Path("answers.cache")
    whole = file.read_bytes()
    if harm == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif harm == "pages":
        file.write_bytes(whole[:8_192] + b"\xff" * (len(whole) - 8_192))
    elif harm == "columns":
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE answers SET at = 'then', said = x'00', asked = 'no JSON'")
    elif harm == "link":
        file.unlink()
        file.symlink_to(file.name)
    else:
        file.write_bytes(b"")
    capsys.readouterr()
    code = main(["cache", command[0], "answers.cache", *command[1:]])
    said = capsys.readouterr().err
    if (harm, command[0]) in {("columns", "prune"), ("empty", "prune")}:
        return  # nothing has to be read
    assert code == 2, said
    assert said.startswith("flatout: ")
    assert said.count("\n") == 1
    assert "unexpected" not in said


def test_looking_changes_nothing_and_needs_no_right_to(provider, capsys, monkeypatch):
    """A cache on a full disk, or somebody else's, could not be looked into."""
    run(["a"], "out.jsonl", "--cache", "answers.cache")
    real = sqlite3.connect

    def connect(name, **options):
        assert "mode=ro" in name
        return real(name.replace("mode=ro&", "").replace("mode=ro", "mode=ro&immutable=1"), **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    before = Path("answers.cache").read_bytes()
    capsys.readouterr()
    assert main(["cache", "ls", "answers.cache"]) == 0
    assert "answers.cache: 1 answer" in capsys.readouterr().out
    assert Path("answers.cache").read_bytes() == before


@pytest.mark.parametrize("harm", ["cut", "pages", "columns"])
def test_a_run_goes_on_without_a_cache_that_is_damaged_inside(provider, capsys, harm):
    """A disk's fault in a file that only saves money would fail a paid run, or give it half an answer."""
    prompts = [f"question {number}" for number in range(300)]
    run(prompts, "out.jsonl", *PLENTY, "--cache", "answers.cache")
    answers = [row["answer"] for row in rows("out.jsonl")]
    file = Path("answers.cache")
    whole = file.read_bytes()
    if harm == "columns":
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE answers SET at = 'then' WHERE rowid % 2")
            connection.execute("UPDATE answers SET said = x'00' WHERE rowid % 3 = 0")
    else:
        kept = whole[: 3 * 4_096] if harm == "cut" else whole[:8_192]
        file.write_bytes(kept + (b"" if harm == "cut" else b"\xff" * (len(whole) - 8_192)))
    code = main(["run", "in.jsonl", "-o", "again.jsonl", *TO, *PLENTY, "--cache", "answers.cache"])
    said = capsys.readouterr().err
    if code == 2:
        assert "is damaged" in said
    else:
        assert code == 0, said
        assert [row["answer"] for row in rows("again.jsonl")] == answers
