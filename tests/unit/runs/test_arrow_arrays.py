"""Arrow arrays built by hand are those that pyarrow builds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")

from flatout.runs.arrow_arrays import built  # noqa: E402  # needs pyarrow

KINDS = {
    pa.string(): st.text(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.list_(pa.int64()): st.lists(st.integers(0, 9), max_size=3),
}


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
