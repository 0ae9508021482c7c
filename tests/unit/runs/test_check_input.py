from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import ConfigError
from flatout.runs.input import check as checks
from flatout.runs.input.check import check
from flatout.runs.input.read import open_input
from flatout.runs.prompts.recipe import Recipe
from flatout.values import Call


def checked(path: Path, rows: list[Any], recipe: Recipe | None = None, **options: Any) -> checks.Checked:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return check(open_input(path), recipe or Recipe(), **options)


def test_a_good_input(tmp_path: Path) -> None:
    """The progress bar would have no total, and a CSV output no header."""
    found = checked(tmp_path / "a.jsonl", ["one", {"prompt": "two", "id": "b", "x": 1}, {"prompt": "three", "y": 2}])
    assert (found.rows, found.ids, found.columns) == (3, 1, ("prompt", "id", "x", "y"))


def test_the_last_line_is_checked_before_the_first_call(tmp_path: Path) -> None:
    """A broken row at the end would be found after all the others were paid for."""
    rows: list[Any] = [{"prompt": "x"}] * 1_000
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 1001: a prompt is a string"):
        checked(tmp_path / "a.jsonl", [*rows, {"prompt": 5}])
    with pytest.raises(ConfigError, match=r"line 1001: --prompt uses {{ txt }}, but this row has no column txt"):
        checked(tmp_path / "a.jsonl", [{"txt": "x"}] * 1_000 + [{"text": "x"}], Recipe(prompt="{{ txt }}"))


def test_models_and_parameters_are_checked_before_the_first_call(tmp_path: Path) -> None:
    """A model without a key, on the last row, would be found after all the others were paid for."""
    asked: list[str | None] = []

    def accept(call: Call) -> None:
        asked.append(call.model)
        if call.model == "groq/x":
            raise ConfigError("no key for groq")

    rows = ["a", {"prompt": "b", "model": "openai/x"}, {"prompt": "c", "model": "groq/x"}]
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 3: no key for groq"):
        checked(tmp_path / "a.jsonl", rows, accept=accept)
    assert asked == [None, "openai/x", "groq/x"]
    asked.clear()
    table = [{"text": "a", "model": "groq/x"}] * 100  # with a template, a row's columns are the user's own data
    checked(tmp_path / "a.jsonl", table, Recipe(prompt="{{ text }}", model="openai/x"), accept=accept)
    assert asked == ["openai/x"]


def test_rows_beyond_the_limit_do_not_matter(tmp_path: Path) -> None:
    """Trying the first ten rows of a file would ask for the other million to be right."""
    rows = [{"prompt": "x", "id": 1}, {"prompt": "y", "id": 1}]
    assert checked(tmp_path / "a.jsonl", rows, limit=1).rows == 1
    with pytest.raises(ConfigError, match="already used"):
        checked(tmp_path / "a.jsonl", rows, limit=2)


def test_a_wrong_column_is_found_from_the_header(tmp_path: Path) -> None:
    """A misspelt column would be reported as a broken row."""
    (tmp_path / "a.csv").write_text("text,label\nx,y\n")
    with pytest.raises(
        ConfigError, match=r"^--prompt uses {{ txt }}, but the input has no column txt; it has: text, label$"
    ):
        check(open_input(tmp_path / "a.csv"), Recipe(prompt="{{ txt }}"))


def test_an_id_used_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    """Two answers under one id could not be told apart."""
    rows = [{"prompt": "x", "id": name} for name in ("z", "a", "b", "c", "a", "b")]
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 5: the id 'a' was already used on line 2$"):
        checked(tmp_path / "a.jsonl", rows)
    with pytest.raises(ConfigError, match=r"line 2: the id '1' was already used on line 1$"):
        checked(tmp_path / "a.jsonl", [{"prompt": "x", "id": 1}, {"prompt": "x", "custom_id": "1"}])


def test_different_ids_with_one_hash_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a billion rows could be refused for ids that are not the same."""
    monkeypatch.setattr(checks, "hash", len, raising=False)
    assert checked(tmp_path / "a.jsonl", [{"prompt": "x", "id": name} for name in ("aa", "bb", "cc")]).ids == 3
    with pytest.raises(ConfigError, match="line 4: the id 'bb' was already used on line 2"):
        checked(tmp_path / "a.jsonl", [{"prompt": "x", "id": name} for name in ("aa", "bb", "cc", "bb")])


def test_stdin_is_not_read() -> None:
    """The check would swallow the rows that are to be answered."""
    source = open_input("-", stdin=io.BytesIO(b"text\nx\n"), format="csv")
    with pytest.raises(ConfigError, match="no column txt"):
        check(source, Recipe(prompt="{{ txt }}"))
    found = check(source, Recipe(prompt="{{ text }}"))
    assert (found.rows, found.columns) == (None, ("text",))
    assert len(list(source)) == 1


def test_keys_without_end_are_not_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSONL file whose keys are data would fill the memory."""
    monkeypatch.setattr(checks, "MOST_COLUMNS", 10)
    rows = [{"prompt": "x", f"k{n}": n} for n in range(20)]
    assert checked(tmp_path / "a.jsonl", rows).columns is None


@settings(deadline=None)
@given(ids=st.lists(st.none() | st.text(max_size=3) | st.integers(0, 99), min_size=1, max_size=12))
def test_exactly_the_inputs_with_an_id_twice_are_refused(
    ids: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A double id would slip through, or a good file be refused."""
    path = tmp_path_factory.getbasetemp() / "ids.jsonl"
    names = [str(name) for name in ids if name not in (None, "")]
    rows = [{"prompt": "x", "id": name} for name in ids]
    if len(set(names)) == len(names):
        assert checked(path, rows).ids == len(names)
    else:
        with pytest.raises(ConfigError, match="was already used on line"):
            checked(path, rows)
