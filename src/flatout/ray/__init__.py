"""Ask a question of every row of a Dataset of Ray Data, at the full speed of your limits.

::

    ds = flatout.ray.answer(ray.data.read_parquet("mails/"), "Spam or ham? {{ text }}", model="openai/gpt-5-mini")

Ray owns the data, the partitions and the machines; flatout owns limits, retries, budget and cache. See
https://flatout.github.io/flatout/cluster/.
"""

from __future__ import annotations

from ._answer import Answers, answer

__all__ = ["Answers", "answer"]
