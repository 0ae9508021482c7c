"""Vectors of a column's texts."""

from __future__ import annotations

import asyncio

import pytest

from flatout import ConfigError
from flatout.tables import embed, embed_async
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.answered_tables import options

pa = pytest.importorskip("pyarrow")


def wire() -> SimulatedTransport:
    return SimulatedTransport(ProviderModel(ProviderSettings(latency=0.0), 0))


def test_vectors_stand_beside_their_texts():
    """A vector would stand beside another text, or the column have no fixed length for an index to be built on."""
    table = pa.table({"text": ["one", None, "two", "one"]})
    made = embed(table, "text", dimensions=4, **options(wire()))
    assert made.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    first, null, other, again = made.column("embedding").to_pylist()
    assert first == again != other
    assert null is None
    assert made.column("error").to_pylist() == [None, "ConfigError: the text is null", None, None]


def test_the_length_is_found_where_it_is_not_given():
    """A user would have to know how long a model's vectors are."""
    made = embed(pa.table({"text": [None, "one"]}), "text", into="v", cost=True, **options(wire()))
    assert made.schema.field("v").type.list_size > 0
    assert made.schema.names == ["text", "v", "error", "cost"]
    empty = embed(pa.table({"text": pa.array([], pa.string())}), "text", **options(wire()))
    assert empty.schema.field("embedding").type == pa.list_(pa.float32())


def test_frames_and_pieces_are_embedded_too():
    """Only Arrow tables would have vectors."""
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"text": ["one", "two"]})
    assert frame.flatout.embed("text", **options(wire())).schema["embedding"].inner == pl.Float32
    lazy = frame.lazy().flatout.embed("text", dimensions=3, **options(wire()))
    assert lazy.collect().schema == {"text": pl.String, "embedding": pl.Array(pl.Float32, 3), "error": pl.String}
    with pytest.raises(ConfigError, match="give the vectors' length"):
        embed(frame.lazy(), "text", **options(wire()))
    reader = embed(frame.to_arrow().to_reader(), "text", **options(wire()))
    assert reader.read_all().num_rows == 2


def test_a_missing_column_is_named():
    """A slip would be an error of Arrow's without a word on what is there."""
    with pytest.raises(ConfigError, match=r"the table has no column txt; it has: text; did you mean text\?"):
        embed(pa.table({"text": ["one"]}), "txt", **options(wire()))


def test_finished_vectors_are_not_paid_for_again(tmp_path):
    """Every rerun would pay for the whole column."""
    table = pa.table({"text": ["one", "two"]})
    given = {"dimensions": 4, "store": tmp_path / "v.flatout"}
    first, again = wire(), wire()
    made = embed(table, "text", **given, **options(first))
    assert embed(table, "text", **given, **options(again)) == made
    assert (first.model.stats()["received"], again.model.stats()["received"]) == (1, 0)


def test_a_program_with_an_event_loop():
    """A server could not embed a table without standing still."""
    made = asyncio.run(embed_async(pa.table({"text": ["one"]}), "text", **options(wire())))
    assert made.num_rows == 1
