"""`answer` and `Answers` for Ray Data: an actor that answers whole blocks, as many at once as the limits need.

What Ray does by default leaves most of a limit unused. A block is one task, an actor takes one task after another, and
each task ends with its slowest rows. So blocks are cut small, and one actor takes many at once, each in a thread.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from flatout import tables
from flatout.errors import ConfigError
from flatout.tables._question import Prompt
from flatout.tables._whole import is_a
from flatout.tables._workers import batches_at_once, check_counts, check_travels, engine, for_all_workers, keyless
from flatout.values import Limits
from flatout.values.checks import is_positive

from ._schema import Inferred, declare

DatasetT = TypeVar("DatasetT")

CPUS = 0.25
"""Processors that Ray reserves for an actor. It mostly waits."""

WHOLE = 2
"""Processors that Ray's own steps wait for: a whole one for readers and writers, one for a filter of checkpoints."""


class Answers(tables.Answers):
    """The class for `ray.data.Dataset.map_batches` that asks a question of every row; `answer` sets the rest.

    ::

        ds.map_batches(
            flatout.ray.Answers,
            fn_constructor_args=("Spam or ham? {{ text }}",),
            fn_constructor_kwargs={"model": "openai/gpt-5-mini", "limits": Limits(rpm=6_000)},
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=1, max_concurrent_calls_per_actor=14, enable_true_multi_threading=True
            ),
        )

    Args:
        prompt: as for `flatout.tables.Answers`.
        **options: as for `flatout.tables.Answers`. Ray shows and stores a constructor's arguments, so ``api_key`` and
            ``headers`` are refused: actors read their keys from the environment or a flatout.toml.

    Raises:
        ConfigError: an option is wrong, or holds a key.
    """

    def __init__(self, prompt: Prompt, **options: Any) -> None:
        keyless(options)
        super().__init__(prompt, **options)

    def __call__(self, table: Any, **run: Any) -> Any:
        """Answer the rows of a batch, and return it with the added columns.

        Args:
            table: a batch of Arrow or of pandas.
            **run: as for `flatout.tables.Answers`.

        Raises:
            ConfigError: the batch is of another kind, lacks a column, or has one that would be added.
        """
        if isinstance(table, dict):
            raise ConfigError('flatout.ray.Answers takes batches of Arrow: give map_batches batch_format="pyarrow"')
        try:
            return super().__call__(table, **run)
        except ConfigError as error:
            raise error.with_traceback(None) from None  # Ray shows the way to an error before it: forty lines


def answer(
    ds: DatasetT,
    prompt: Prompt,
    *,
    model: str | None = None,
    limits: Limits | None = None,
    actors: int = 1,
    rows_per_block: int = 1_000,
    cache: bool | str | os.PathLike[str] | None = None,
    num_cpus: float | None = None,
    **options: Any,
) -> DatasetT:
    """Ask a question of every row of a Dataset. The answers, and the errors of rows without one, are columns of it.

    ::

        ds = flatout.ray.answer(ds, "Spam or ham? {{ text }}", model="openai/gpt-5-mini", limits=Limits(rpm=10_000))
        ds.write_parquet("labelled/")

    It is lazy, as all of Ray Data: rows are asked when the Dataset is read, anew each time unless there is a ``cache``.
    Rows come in the order in which their blocks are finished; sort by a column of yours if the order matters.

    Args:
        ds: a Dataset of Ray Data.
        prompt: a template with the row's columns in it, or a function of a row; see `flatout.tables.Answers`.
        model: ``provider/model``.
        limits: the limits of all actors together. Several actors need ``Limits(shared="ray://team")``.
        actors: how many actors ask. One answers some hundred rows a second, and nothing needs sharing then.
        rows_per_block: rows that Ray hands over, retries and writes together.
        cache: keeps answers where all actors find them. Without it, what an actor has been answered and not handed on
            is paid again when the actor dies. A path is one file on one machine.
        num_cpus: processors that Ray reserves for an actor. By default a quarter of one; none in a cluster so small
            that Ray's own steps would wait for theirs for ever.
        **options: the other options of `flatout.tables.Answers`.

    Raises:
        ConfigError: Ray is not installed, an option is wrong or cannot be sent to an actor, the Dataset is known to
            lack a column that the prompt names, or to have one that would be added. Nothing was sent.
    """
    data = engine("ray.data", "ray")
    if not is_a(ds, "ray.Dataset"):
        raise ConfigError(
            f"a Dataset of Ray Data is needed, not a {type(ds).__name__}: ray.data.from_pandas and others make one"
        )
    check_counts(actors=actors, rows_per_block=rows_per_block)
    if num_cpus not in (None, 0) and not is_positive(num_cpus):
        raise ConfigError(f"num_cpus is a number of processors, 0 or more, not {num_cpus!r}")
    if actors > 1 and (limits is None or limits.shared is None):
        raise ConfigError(
            f"each of {actors} actors would take the whole limit for itself: give "
            'Limits(shared="ray://team"), or one actor'
        )
    given = {"model": model, "limits": limits, "cache": for_all_workers(cache), **options}
    answers = tables.Answers(prompt, **given)
    check_travels({"prompt": prompt, **given}, engine("ray.cloudpickle", "ray").dumps)
    inferred = Inferred(answers, ds)
    inferred.known()  # so that a column that is missing is told now, if the columns are known
    at_once = batches_at_once(limits, rows_per_block, actors)
    blocks: Any = ds
    answered: DatasetT = blocks.repartition(target_num_rows_per_block=rows_per_block).map_batches(
        Answers,
        fn_constructor_args=(prompt,),
        fn_constructor_kwargs=given,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(
            size=actors,
            max_concurrent_calls_per_actor=at_once,
            max_tasks_in_flight_per_actor=at_once + 1,
            enable_true_multi_threading=True,
        ),
        num_cpus=_cpus(actors) if num_cpus is None else num_cpus,
        udf_modifying_row_count=False,
    )
    declare(answered, inferred)
    return answered


def _cpus(actors: int) -> float:
    """The processors to reserve for each of these actors."""
    there = engine("ray", "ray").cluster_resources().get("CPU", 0)
    return CPUS if there >= WHOLE + CPUS * actors else 0
