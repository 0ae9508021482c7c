"""The seed of the instants at which tests kill: the same in every test run; ``FLATOUT_KILL_SEED=0`` draws another."""

from __future__ import annotations

import os
import random

SEED = int(os.environ.get("FLATOUT_KILL_SEED", "1")) or random.randrange(1 << 30)
