"""`flatout.ray` and `flatout.daft`: what they ask of their engines, without them.

``tests/integration/test_engines.py`` and its siblings run the real ones.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

import flatout.daft
import flatout.ray
from flatout import ConfigError, Limits
from flatout.daft._answer import _Answers as DaftAnswers
from flatout.ray._schema import Inferred
from tests.support.answered_tables import Lines, options

pa = pytest.importorskip("pyarrow")

LIMITS = Limits(rpm=6_000)


class Dataset:
    """A dataset that notes what is done with it.

    Args:
        schema: what Ray knows of it.
        first: what it finds out by reading the first row.
        step: its last step.
    """

    def __init__(self, schema=None, first=None, step=None) -> None:
        self._schema = schema
        self._first = first
        self._logical_plan = SimpleNamespace(dag=step or SimpleNamespace(infer_schema=lambda: None))
        self.done: dict[str, dict] = {}

    def schema(self, fetch_if_missing: bool = True):
        known = self._first if fetch_if_missing and self._schema is None else self._schema
        return None if known is None else SimpleNamespace(names=known.names, base_schema=known)

    @property
    def inferred(self):
        """What Ray infers of the last step."""
        return self._logical_plan.dag.infer_schema

    def _base_schema(self, fetch_if_missing: bool = True):
        """What Ray does for a schema before it asks rows; it has the method, with this name."""
        return self.inferred()

    def drop_columns(self):
        """As Ray, which makes a function of it if the columns are not known."""
        return self.inferred()

    def repartition(self, **given):
        self.done["repartition"] = given
        return self

    def map_batches(self, function, **given):
        self.done["map_batches"] = {"function": function, **given}
        return self


Dataset.__module__ = "ray.data.dataset"


@pytest.fixture
def ray(monkeypatch):
    """A Ray that does nothing."""
    modules = {name: ModuleType(name) for name in ("ray", "ray.data", "ray.cloudpickle")}
    modules["ray"].cluster_resources = lambda: {"CPU": 8.0}
    modules["ray.data"].ActorPoolStrategy = dict
    modules["ray.cloudpickle"].dumps = pickle.dumps
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return modules["ray"]


def asked(prompt="{{ text }}", names=("id", "text"), **more):
    ds = Dataset(pa.schema([(name, pa.string()) for name in names]))
    made = flatout.ray.answer(ds, prompt, **{"model": "openai/gpt-5-mini", "limits": LIMITS, **more})
    assert made is ds
    return ds.done["repartition"], ds.done["map_batches"]


def test_ray_is_told_to_take_enough_blocks_at_once(ray):
    """A limit would be used by a tenth: an actor takes one block after another unless it is told otherwise."""
    repartition, batches = asked()
    assert repartition == {"target_num_rows_per_block": 1_000}
    pool = batches["compute"]
    assert pool["size"] == 1
    assert pool["enable_true_multi_threading"]
    assert pool["max_concurrent_calls_per_actor"] * 1_000 >= LIMITS.rpm * 2
    assert pool["max_tasks_in_flight_per_actor"] > pool["max_concurrent_calls_per_actor"]


@pytest.mark.parametrize(
    ("there", "actors", "reserved"), [(8, 1, 0.25), (3, 4, 0.25), (2, 1, 0), (1, 1, 0), (4, 12, 0), (None, 1, 0)]
)
def test_ray_keeps_whole_processors_for_its_own_steps(ray, there, actors, reserved):
    """A job with checkpoints on two processors, or any on one, would wait for ever without a word."""
    ray.cluster_resources = lambda: {} if there is None else {"CPU": there}
    limits = Limits(rpm=6_000, shared="team")
    assert asked(actors=actors, limits=limits)[1]["num_cpus"] == reserved
    assert asked(actors=actors, limits=limits, num_cpus=1)[1]["num_cpus"] == 1


def test_what_ray_sends_to_an_actor_makes_the_class_there(ray):
    """Every actor would die when it starts."""
    _, batches = asked(into="label", temperature=0, cache="answers.cache", config={})
    given = pickle.loads(pickle.dumps(batches["fn_constructor_kwargs"]))
    made = batches["function"](*batches["fn_constructor_args"], **given)
    assert repr(made) == "Answers('{{ text }}', model='openai/gpt-5-mini')"
    assert made.schema(pa.schema([("text", pa.string())])).names == ["text", "label", "error"]


def test_a_batch_in_an_actor_is_answered():
    """`map_batches` would fail on every block."""
    with flatout.ray.Answers("Say {{ text }}", **options(Lines())) as answers:
        made = answers(pa.table({"text": ["one", "two"]}))
        assert made.column("answer").to_pylist() == ["about one", "about two"]
        with pytest.raises(ConfigError, match='batch_format="pyarrow"'):
            answers({"text": ["one"]})
        with pytest.raises(ConfigError, match="no column text") as wrong:
            answers(pa.table({"txet": ["one"]}))
        assert len(wrong.traceback) == 2  # this line, and the one that raises it: Ray shows all of it


@pytest.mark.parametrize("held", [{"api_key": "sk-1"}, {"headers": {"x": "sk-1"}}])
def test_the_class_takes_no_key(held):
    """A key would stand in Ray's logs and in its dashboard, as a constructor's argument."""
    with pytest.raises(ConfigError, match="keys stay in the process"):
        flatout.ray.Answers("{{ text }}", model="m", **held)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"prompt": "{{ txet }}"}, r"no column txet; it has: id, text; did you mean text\?"),
        ({"into": "text"}, "has a column text already"),
        (
            {"actors": 2},
            r"each of 2 actors would take the whole limit for itself: give Limits\(shared=.ray://team.\), or one actor",
        ),
        ({"rows_per_block": 0}, "rows_per_block is a whole number above 0, not 0"),
        ({"num_cpus": "all"}, "num_cpus is a number of processors, 0 or more, not 'all'"),
        ({"transport": threading.Lock()}, "transport cannot be sent to the workers"),
        ({"api_key": "sk-1"}, "api_key is not pickled"),
        ({"tempreature": 0}, "tempreature"),
        ({"store": "run.flatout"}, "store belongs to one table.*cache= keeps the answers to many"),
    ],
)
def test_what_is_wrong_is_told_before_ray_starts_anything(ray, wrong, told):
    """Users would find out from an actor's traceback, after their cluster has started."""
    with pytest.raises(ConfigError, match=told):
        asked(**wrong)


def test_columns_that_are_not_known_yet_are_no_reason_to_read_rows(ray):
    """A second question to the same rows would ask the first one already when it is written down."""
    ds = Dataset(None, first=pa.schema({"txet": pa.string()}))  # which would be refused
    made = flatout.ray.answer(ds, "{{ text }}", model="m")
    assert made.inferred() is None
    assert made._base_schema(fetch_if_missing=False) is None  # a look at the Dataset itself, as in a notebook


def test_ray_is_told_the_schema(ray):
    """Ray would ask a row, and pay for it, whenever somebody looks at the types of the columns."""
    ds = Dataset(pa.schema({"id": pa.int64(), "text": pa.string()}))
    made = flatout.ray.answer(ds, "{{ text }}", model="m", output=int, into="stars", limits=LIMITS)
    assert made.inferred() == pa.schema(
        {"id": pa.int64(), "text": pa.string(), "stars": pa.int64(), "error": pa.string()}
    )


def test_the_schema_of_a_file_without_types_is_found_out_before_the_question(ray):
    """Ray would ask a row of a CSV file whenever somebody looks at the types, and all rows if a sort follows."""
    made = flatout.ray.answer(Dataset(None, first=pa.schema({"text": pa.string()})), "{{ text }}", model="m")
    for looked in (made._base_schema(), made.drop_columns()):
        assert looked.names == ["text", "answer", "error"]
    empty = flatout.ray.answer(Dataset(None), "{{ text }}", model="m")
    assert empty._base_schema() is None
    wrong = flatout.ray.answer(Dataset(None, first=pa.schema({"txet": pa.string()})), "{{ text }}", model="m")
    with pytest.raises(ConfigError, match="no column text"):
        wrong._base_schema()


def test_a_schema_of_another_kind_is_not_promised(ray):
    """The types in pandas are not those of the blocks, so later steps would rely on wrong ones."""
    ds = Dataset(SimpleNamespace(names=["id", "text"]))
    assert flatout.ray.answer(ds, "{{ text }}", model="m", limits=LIMITS).inferred() is None
    with pytest.raises(ConfigError, match="no column txet"):
        flatout.ray.answer(ds, "{{ txet }}", model="m", limits=LIMITS)


class OtherStep:
    """A step of a Ray that asks for schemas in another way."""

    def infer_schema(self, of: str) -> str:
        return of


@pytest.mark.parametrize("step", [OtherStep(), object(), SimpleNamespace(infer_schema=None)])
def test_another_ray_goes_its_own_way(ray, step):
    """An upgrade of Ray would end every job, though nothing but a look at the types depends on it."""
    made = flatout.ray.answer(Dataset(pa.schema({"text": pa.string()}), step=step), "{{ text }}", model="m")
    assert made._logical_plan.dag is step
    assert not isinstance(getattr(step, "infer_schema", None), Inferred)


def test_several_actors_may_share_a_limit(ray):
    """Nobody could use more than one core of a cluster."""
    _, batches = asked(actors=4, limits=Limits(rpm=6_000, shared="team"))
    assert batches["compute"]["size"] == 4


def test_another_table_than_a_dataset_is_refused(ray):
    """Users would read that a frame has no attribute repartition."""
    with pytest.raises(ConfigError, match="a Dataset of Ray Data is needed, not a Table"):
        flatout.ray.answer(pa.table({"text": ["a"]}), "{{ text }}", model="m")


def test_a_column_that_daft_was_not_given_is_told_as_such():
    """Users would search a frame that has the column for the reason why it has not."""
    answers = DaftAnswers("{{ subject }}: {{ text }}", model="m")
    answers.check(["subject", "text"])
    with pytest.raises(ConfigError, match=r"no column subject; it has: text \(the table is what .* column, names\)"):
        answers.check(["text"])


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: flatout.ray.answer(Dataset(), "{{ text }}", model="m"), r"flatout\.ray needs ray, .*'flatout\[ray\]'"),
        (
            lambda: flatout.daft.answer("text", "{{ text }}", model="m"),
            r"flatout\.daft needs daft, .*'flatout\[daft\]'",
        ),
    ],
)
def test_an_engine_that_is_missing_is_named(monkeypatch, ask, told):
    """Users would not know what to install."""
    for name in ("ray", "daft"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=told):
        ask()


def test_importing_the_doors_imports_no_engine():
    """``import flatout.ray`` would take seconds, on a machine that only writes the job down."""
    code = "import sys, flatout.ray, flatout.daft; print({'ray', 'daft', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
