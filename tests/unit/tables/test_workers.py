"""What workers of engines are sent, and how many batches they take at once."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pytest

from flatout import ConfigError, Limits
from flatout.tables._workers import MOST, batches_at_once, check_counts, check_travels, engine, for_all_workers


@pytest.mark.parametrize(
    ("limits", "rows_in_hand"),
    [
        (None, 12_000),
        (Limits(tpm=2_000_000), 12_000),
        (Limits(rpm=600), 1_200),
        (Limits(rpm=10_000), 20_000),
        (Limits(concurrency=500), 6_000),
        (Limits(rpm=600, concurrency=500), 1_200),
    ],
)
@pytest.mark.parametrize("rows", [100, 1_000])
@pytest.mark.parametrize("workers", [1, 4])
def test_batches_at_once_hold_enough_rows_while_one_of_them_ends(limits, rows_in_hand, rows, workers):
    """A limit would idle whenever a batch waits for its slowest rows."""
    many = batches_at_once(limits, rows, workers)
    assert (many - 1) * rows * workers >= rows_in_hand
    assert many <= 3 + rows_in_hand / (rows * workers)


def test_tiny_batches_do_not_make_threads_without_end():
    """A worker would start thousands of threads, one for each batch of a row."""
    assert batches_at_once(Limits(rpm=10_000), 1) == MOST


def test_a_key_is_not_sent_to_workers():
    """A key would stand in an engine's logs and in its dashboard."""
    for held in ({"api_key": "sk-1"}, {"headers": {"authorization": "sk-1"}}, {"base_url": "https://u:sk-1@x.test/v1"}):
        with pytest.raises(ConfigError, match="not pickled: keys stay in the process") as caught:
            check_travels(held, pickle.dumps)
        assert "sk-1" not in str(caught.value)


def test_an_option_that_cannot_be_sent_is_named():
    """Users would read the innards of a pickler, and search for the option themselves."""
    with pytest.raises(ConfigError, match=r"^transport cannot be sent to the workers: .*lock"):
        check_travels({"model": "m", "transport": threading.Lock()}, pickle.dumps)


def test_what_is_missing_is_named():
    """Users would not know what to install."""
    with pytest.raises(ConfigError, match=r"^flatout\.ray needs no_such_engine, .*pip install 'flatout\[ray\]'$"):
        engine("no_such_engine", "ray")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2", None])
def test_a_count_that_is_none_is_refused(wrong):
    """An engine would fail on it later, in words of its own."""
    with pytest.raises(ConfigError, match="actors is a whole number above 0"):
        check_counts(actors=wrong)


def test_workers_find_the_cache_whatever_their_folder_is(tmp_path, monkeypatch):
    """Each worker would keep answers in a file of its own, and a repeated block would be paid again."""
    monkeypatch.chdir(tmp_path)
    assert for_all_workers("answers.cache") == str(tmp_path / "answers.cache")
    assert for_all_workers(Path("answers.cache")) == str(tmp_path / "answers.cache")
    assert for_all_workers("redis://host:6379/0/team") == "redis://host:6379/0/team"
    assert for_all_workers(True) is True
    assert for_all_workers(None) is None
