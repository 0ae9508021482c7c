"""What was learnt of a target, from one run to the next."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.store.memory import KEEP, Learnt, Memory

WEIGHTS = (0.2, 0.3, 0.3, 0.1)


def learnt(age: float = 0.0) -> Learnt:
    ahead = {"depths": {"rpm": 30.0}, "owes": 20.0}
    return Learnt(at=time.time() - age, rate=12.5, even=True, charges="input", weights=WEIGHTS, seen=50, **ahead)


def test_what_was_kept_is_recalled(tmp_path):
    """Every run would search anew for what the last one found."""
    Memory(tmp_path / "new" / "folder").keep("sim/model", learnt())
    found = Memory(tmp_path / "new" / "folder").recall("sim/model")
    assert found is not None
    assert (found.rate, found.even, found.charges, found.weights, found.seen) == (12.5, True, "input", WEIGHTS, 50)
    assert (found.depths, found.owes) == ({"rpm": 30.0}, 20.0)


def test_targets_are_kept_apart(tmp_path):
    """One model would be paced by another's rate."""
    memory = Memory(tmp_path)
    memory.keep("sim/model", learnt())
    assert memory.recall("sim/other") is None


@pytest.mark.parametrize("age", [KEEP + 1, -3_600])
def test_what_is_too_old_or_from_the_future_is_not_believed(tmp_path, age):
    """A limit that was raised months ago would still be kept to."""
    memory = Memory(tmp_path)
    memory.keep("sim/model", learnt(age))
    assert memory.recall("sim/model") is None


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=80)
    | st.sampled_from([b"{}", b"[]", b"null", b'{"at":1e999}', b'{"at":"x"}', b'{"at":1,"more":2}', b'{"at":-1}'])
)
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path_factory, content):
    """A full disk last week would end every run today."""
    folder = tmp_path_factory.mktemp("memory")
    memory = Memory(folder)
    memory.keep("sim/model", learnt())
    (file,) = folder.iterdir()
    file.write_bytes(content)
    assert memory.recall("sim/model") is None
    memory.keep("sim/model", learnt())
    assert memory.recall("sim/model") is not None


@pytest.mark.parametrize("rate", ["0", "-1", "1e999", "1e-300"])
@pytest.mark.parametrize("field", ["rate", "seen"])
def test_a_number_that_makes_no_sense_is_not_believed(tmp_path, field, rate):
    """A run would begin with a request an hour, or end with a traceback."""
    memory = Memory(tmp_path)
    memory.keep("sim/model", learnt())
    (file,) = tmp_path.iterdir()
    file.write_text(f'{{"at": {time.time()}, "{field}": {rate}}}')
    found = memory.recall("sim/model")
    assert found is None or (found.rate is None or 1e-6 < found.rate < 1e9)
    assert found is None or found.seen >= 0


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    """A run would fail at its very end, for the want of a cache."""
    (tmp_path / "file").touch()
    memory = Memory(tmp_path / "file" / "folder")
    memory.keep("sim/model", learnt())
    assert memory.recall("sim/model") is None


@given(st.text(max_size=200))
def test_names_never_become_paths(tmp_path_factory, name):
    """A model's name would write where it likes."""
    folder = tmp_path_factory.mktemp("names") / "inner"
    name = name.encode("utf-8", "replace").decode()
    Memory(folder).keep(name, learnt())
    (file,) = folder.iterdir()
    assert set(file.stem) <= set("0123456789abcdef")


def test_what_is_kept_names_neither_key_nor_model(tmp_path):
    """The cache would tell who uses what."""
    Memory(tmp_path).keep("https://host/v1 secret-key model", learnt())
    (file,) = tmp_path.iterdir()
    assert b"secret" not in file.read_bytes()
    assert "secret" not in file.name
