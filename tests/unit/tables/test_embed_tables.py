"""Vectors of a column's texts."""

from __future__ import annotations

import asyncio
import json

import pytest

from flatout import ConfigError, RunMismatch
from flatout.layer import Response
from flatout.store import RunReader
from flatout.tables import _embed, answer, embed, embed_async
from flatout.testing import ProviderModel, ProviderSettings, SimulatedTransport
from tests.support.answered_tables import options
from tests.support.scripted_wire import Wire

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


def test_a_text_that_has_changed_is_named(tmp_path):
    """A user would be told of a column "item", with a list of a thousand texts."""
    given = {"dimensions": 4, "store": tmp_path / "v.flatout", **options(wire())}
    embed(pa.table({"text": ["one", "two", "three"]}), "text", **given)
    told = r'belongs to another job: row 1, value 2: was "two", is now "too"; use'
    with pytest.raises(RunMismatch, match=told):
        embed(pa.table({"text": ["one", "too", "three"]}), "text", **given)
    with pytest.raises(RunMismatch, match=r"row 1, had 3 values, has 2 now; use"):
        embed(pa.table({"text": ["one", "two"]}), "text", **given)


def test_rows_without_a_vector_do_not_fill_the_memory(monkeypatch):
    """A stream that begins with a million nulls would be held as a whole, to learn how long vectors are."""
    monkeypatch.setattr(_embed, "MOST_WAITING", 10)
    batches = [pa.record_batch({"text": pa.array([None] * 4, pa.string())})] * 5
    with pytest.raises(ConfigError, match=r"^the first 12 rows have no vector that .*: give it, dimensions=…$"):
        list(embed(iter(batches), "text", **options(wire())))
    assert len(list(embed(iter(batches), "text", dimensions=4, **options(wire())))) == 5
    assert embed(pa.Table.from_batches(batches), "text", **options(wire())).num_rows == 20


def test_a_program_with_an_event_loop():
    """A server could not embed a table without standing still."""
    made = asyncio.run(embed_async(pa.table({"text": ["one"]}), "text", **options(wire())))
    assert made.num_rows == 1


class Refusing(Wire):
    """An embedding model that refuses requests with some texts in them."""

    def __init__(self, *refused: str, why: str = "no") -> None:
        super().__init__()
        self.refused = set(refused)
        self.why = why
        self.asked: list[str] = []

    async def send(self, request):
        texts = json.loads(request.body)["input"]
        if self.refused.intersection(texts):
            return Response(400, {}, json.dumps({"error": {"message": self.why}}).encode())
        self.asked += texts
        data = [{"index": place, "embedding": [float(len(text)), 0.0]} for place, text in enumerate(texts)]
        return Response(200, {}, json.dumps({"data": data, "usage": {"prompt_tokens": len(texts)}}).encode())


@pytest.mark.parametrize("why", ["this is no text", "This model's maximum context length is 8192 tokens"])
def test_failed_texts_are_asked_again_and_the_others_are_not(tmp_path, why):
    """A bad text would stay without a vector for good, or all others be paid for again."""
    table = pa.table({"text": [f"text {n}" for n in range(9)] + [None]})
    given = {"store": tmp_path / "v.flatout", "error": "why"}

    def vectors(wire, **more):
        made = embed(table, "text", **given, **more, **options(wire))
        return [row["embedding"] is not None for row in made.to_pylist()]

    wanted = [n not in (3, 9) for n in range(10)]
    assert vectors(first := Refusing("text 3", why=why)) == wanted
    with RunReader.open(given["store"]) as reader:
        assert reader.summary().failed == 1
    assert vectors(again := Refusing()) == wanted
    assert vectors(third := Refusing(), retry_failed=True) == [n != 9 for n in range(10)]
    assert (len(first.asked), again.asked, third.asked) == (8, [], ["text 3"])
    with RunReader.open(given["store"]) as reader:
        assert reader.summary().failed == 0


def test_progress_counts_texts(tmp_path):
    """A long column would be silent, or count requests."""
    table = pa.table({"text": [f"text {n}" for n in range(2_000)]})
    for store in (None, tmp_path / "v.flatout"):
        heard = []
        embed(table, "text", progress=heard.append, store=store, **options(Refusing("text 7")))
        last = heard[-1]
        assert (last.answered, last.failed, last.total) == (1_999, 1, 2_000)
        assert last.failures["InvalidRequest"].row == 8
    embed(table, "text", progress=heard.append, store=store, **options(Refusing()))
    last = heard[-1]
    assert (last.resumed, last.failed_before, last.answered, last.failed, last.cost) == (2_000, 1, 0, 0, 0.0)
    embed(table, "text", progress=heard.append, store=store, retry_failed=True, **options(Refusing()))
    last = heard[-1]
    assert (last.resumed, last.failed_before, last.answered, last.failed) == (1_999, 0, 1, 0)


def test_a_null_that_failed_before_does_not_fail_anew(tmp_path):
    """A run that goes on would tell of new failures, although it asked for nothing."""
    table, heard = pa.table({"text": ["one", None, "two"]}), []
    for wire, more in ((Refusing("two"), {}), (Refusing(), {}), (Refusing(), {"retry_failed": True})):
        embed(table, "text", progress=heard.append, store=tmp_path / "v.flatout", **more, **options(wire))
        last = heard[-1]
        heard.append((last.resumed, last.failed_before, last.answered, last.failed))
    told = [each for each in heard if isinstance(each, tuple)]
    assert told == [(0, 0, 1, 2), (3, 2, 0, 0), (2, 1, 1, 0)]


def test_a_value_that_cannot_be_read_has_no_vector():
    """The words of an error would be embedded as if they were the text."""
    given = pa.table({"at": pa.array([10**15, 0], pa.timestamp("s"))})
    made = embed(given, "at", **options(wire := Refusing())).drop_columns(["at"]).to_pylist()
    assert [row["embedding"] is None for row in made] == [True, False]
    assert made[0]["error"].startswith("ConfigError: the column at (timestamp[s])")
    assert wire.asked == ["1970-01-01 00:00:00"]


def test_a_run_file_of_something_else_is_told_by_its_name(tmp_path):
    """A user would read the name of a class that is nowhere documented."""
    table, place = pa.table({"text": ["one"]}), tmp_path / "v.flatout"
    given = options(wire())
    embed(table, "text", store=place, **given)
    with pytest.raises(RunMismatch, match="model was 'm', is now 'other'"):
        embed(table, "text", store=place, **{**given, "model": "other"})
    with pytest.raises(RunMismatch, match=r"it was made for flatout\.tables\.embed, and is now used for calls; "):
        answer(table, "{{ text }}", store=place, **given)
