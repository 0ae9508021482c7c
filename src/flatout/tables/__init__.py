"""Ask a question of every row of a table, and get the same kind of table back, with the answers beside its columns.

::

    import flatout.tables

    df = flatout.tables.answer(df, "Spam or ham? {{ text }}", model="openai/gpt-5-mini", into="label")
    df = df.flatout.answer("Spam or ham? {{ text }}", model="openai/gpt-5-mini", into="label")  # the same

- `answer` and `embed` take Arrow, pandas, Polars, DuckDB, datasets, and iterators of record batches.
- `answer_async` and `embed_async` do the same in a program with an event loop.
- `Answers` is beneath: a callable over record batches, which engines send to their workers.
"""

from __future__ import annotations

from ._accessors import register
from ._answers import Answers
from ._api import answer, answer_async, embed, embed_async

__all__ = ["Answers", "answer", "answer_async", "embed", "embed_async"]

register()
