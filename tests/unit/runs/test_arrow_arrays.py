"""Arrow arrays built by hand are those that pyarrow builds."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")

from flatout.runs.arrow_arrays import built, type_of  # noqa: E402  # needs pyarrow

NUMBERS = st.integers(-(2**63), 2**63 - 1)
THING = pa.struct([pa.field("name", pa.string()), pa.field("size", pa.float64(), nullable=False)])
THINGS = st.fixed_dictionaries({}, optional={"name": st.none() | st.text(), "size": st.floats(allow_nan=False)})
KINDS = {
    pa.string(): st.text(),
    pa.large_string(): st.text(),
    pa.binary(): st.binary(),
    pa.large_binary(): st.binary(),
    pa.int8(): st.integers(-128, 127),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): NUMBERS,
    pa.uint8(): st.integers(0, 255),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.list_(pa.int64()): st.lists(st.none() | st.integers(0, 9), max_size=3),
    pa.large_list(pa.field("element", pa.string())): st.lists(st.text(), max_size=3),
    pa.list_(pa.int64(), 2): st.lists(st.integers(0, 9), min_size=2, max_size=2),
    THING: THINGS,
    pa.list_(THING): st.lists(st.none() | THINGS, max_size=3),
}
SIMPLE = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3) | NUMBERS
JSON = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner))


@given(st.data())
def test_they_are_the_same(data):
    """An answer would stand in another row, or be another value."""
    kind = data.draw(st.sampled_from(sorted(KINDS, key=str)))
    values = data.draw(st.lists(st.none() | KINDS[kind], max_size=20))
    made = built(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))
    assert made.null_count == values.count(None)


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.int64(), 2**63), (pa.int64(), "a"), (pa.string(), 1), (pa.string(), "\ud800")]
)
def test_what_does_not_fit_is_refused_as_pyarrow_does(kind, value):
    """A value would be cut, or its row have no error."""
    with pytest.raises((pa.ArrowException, ValueError, OverflowError)) as told:
        pa.array([value], kind)
    with pytest.raises(told.type):
        built([value], kind)


@given(st.lists(JSON, max_size=4))
def test_values_have_the_type_that_pyarrow_finds(values):
    """A column of answers would become text, or lose a field."""
    try:
        kind = type_of(values)
    except ValueError:
        return
    assert kind == pa.array(values).type
    assert built(values, kind).equals(pa.array(values))


@pytest.mark.parametrize(
    "values", [[1, "1"], [1, True], [0.5, False], [{}, []], [[1], ["1"]], [2**63], [2**53 + 1, 0.5]]
)
def test_values_without_one_type(values):
    """A file could not be written, or a value be another one in it. (pyarrow takes a False among floats for 0.0.)"""
    with pytest.raises(ValueError, match="no type for"):
        type_of(values)


def test_each_bit_of_a_number_is_kept():
    """A minus zero would lose its sign, and a number that is none its place."""
    made = built([-0.0, math.nan, -math.inf, None, 3], pa.float64()).to_pylist()
    assert math.copysign(1.0, made[0]) == -1.0
    assert math.isnan(made[1])
    assert made[2:] == [-math.inf, None, 3.0]
    with pytest.raises(pa.ArrowInvalid):
        built([2**53 + 1, 0.5], pa.float64())


def test_pandas_stays_away():
    """A program that needs no pandas would wait for it, and give it 45 MB: pyarrow imports it wherever it is."""
    pytest.importorskip("pandas")
    given = [{"texts": ["a", None], "at": {"day": None, "share": 1}}, None, {"texts": [], "more": True}]
    code = f"""
import sys
from flatout.runs.arrow_arrays import built, type_of
values = {given}
print(built(values, type_of(values)).to_pylist()[0], "pandas" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "{'texts': ['a', None], 'at': {'day': None, 'share': 1}, 'more': None} False\n"
