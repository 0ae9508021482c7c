"""Ask a question of every row of a DataFrame of Daft, at the full speed of your limits.

::

    label = flatout.daft.answer("text", "Spam or ham? {{ text }}", model="openai/gpt-5-mini", into="label")
    df = df.select("*", label.unnest())

Daft owns the data, the partitions and the machines; flatout owns limits, retries, budget and cache. See
https://flatout.github.io/flatout/cluster/.
"""

from __future__ import annotations

from ._answer import answer

__all__ = ["answer"]
