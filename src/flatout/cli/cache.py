"""``flatout cache``: what is in the cache of answers, why a row was not answered from it, and how to shrink it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flatout.text import figures

from .row_names import find_row
from .run_names import RunName, find
from .terminal import Fact, clean, lay_out, say, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flatout.caches import Name
    from flatout.look.batches import RowInBatch
    from flatout.store import Item
    from flatout.values.answers import Entry, Size

HELP = "Look into the cache of answers (--cache), and make it smaller."

LS_EPILOG = """\
[bold]Examples[/bold]

$ flatout cache ls                     # the cache in your cache folder
$ flatout cache ls answers.cache
"""

WHY_EPILOG = """\
[bold]Examples[/bold]

$ flatout cache why answers.jsonl 3    # why row 3 was asked
$ flatout cache why answers.jsonl order-1138
$ flatout cache why answers.jsonl 3 --cache answers.cache  # in another cache
"""

PRUNE_EPILOG = """\
[bold]Examples[/bold]

$ flatout cache prune --older-than 30d
$ flatout cache prune answers.cache --older-than 12h
"""

EXPORT_EPILOG = """\
[bold]Examples[/bold]

$ flatout cache export
$ flatout cache export answers.cache -o kept.jsonl
"""

File = Annotated[
    str | None,
    typer.Argument(metavar="[FILE]", help="The cache, or its address in Redis; default the one in your cache folder."),
]

_SHOWN = 10  # entries that `ls` lists
_WIDTH = 60  # characters of a question in that list


def ls(
    file: File = None,
) -> int:
    """Show how many answers are kept, what they cost, and the newest of them."""
    from flatout.caches import reader

    place = _place(file)
    with reader(place) as kept:
        size, newest = kept.survey(_SHOWN)
    show(f"{clean(str(place))}: {figures.counted(size.answers, 'answer')}", fit=True)
    if size.answers:
        show("\n".join(lay_out(_facts(size))), fit=True)
    for entry in newest:
        show(f"  {_line(entry)}")
    return 0


def why(
    run: RunName,
    row: Annotated[str, typer.Argument(metavar="ROW", help="The row's number in the output, from 1, or its id.")],
    cache: Annotated[
        str | None, typer.Option(metavar="FILE", help="The cache; default the one that the run had.")
    ] = None,
) -> int:
    """Say why a row of a run was not answered from the cache: the first field that differs from the nearest answer."""
    from flatout.caches import CACHE, reader
    from flatout.durable.asked import distance
    from flatout.durable.records import is_cached
    from flatout.errors import ConfigError
    from flatout.look.batches import row_in_batch
    from flatout.store import RunReader

    place = find(run)
    with RunReader.open(place) as read:
        index = find_row(read, row, lambda index: bool(read.item(index) or row_in_batch(read, index)))
        item, batch, job, had = read.item(index), row_in_batch(read, index), read.info().job, read.fact(CACHE)
    number = index + 1
    if item is None and batch is not None:
        show(f"Row {number} has no result yet. It {_in_batch(batch)}.", fit=True)
        return 0
    if item is None:
        raise ConfigError(f"{place} has no result for row {number}")
    if is_cached(item):
        show(f"Row {number} was answered from a cache.")
        return 0
    question = _question(item, job, str(place))
    if cache is None and had == "":
        show(f"Row {number} was asked because the run had no cache; --cache gives it one.", fit=True)
        return 0
    with reader(_place(None) if cache is None and had is None else cache or _of_run(had)) as kept:
        began = item.finished_at - (item.seconds or 0.0)  # its own answer was kept after that
        before = (entry for entry in kept.entries() if entry.kept.at <= began)
        nearest = min(before, key=lambda entry: distance(_asked(entry), question), default=None)
    show(_reason(number, question, nearest), fit=True)
    if cache is None and had is None:
        show("The run does not say which cache it had: this is about the one in your cache folder.", fit=True)
    if note := _not_kept(item):
        show(note, fit=True)
    return 0


def _of_run(had: Any) -> str:
    """The cache that a run file names. The file may be anybody's, so no server is asked because of it.

    Raises:
        ConfigError: it is the address of a server.
    """
    from flatout.errors import ConfigError
    from flatout.values.place import is_place

    if not isinstance(had, str) or is_place(had):
        raise ConfigError(f"the run had the cache {clean(str(had))}: to ask it, add --cache {clean(str(had))}")
    return had


def _in_batch(batch: RowInBatch) -> str:
    waits = "waits " if batch.row.state == "sent" else ""
    return clean(f"{waits}{batch.in_words(time.time())}", 400)


def prune(
    file: File = None,
    older_than: Annotated[str | None, typer.Option(metavar="TIME", help="Remove what is older: 12h, 30d.")] = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Remove everything.")] = False,
) -> int:
    """Remove old answers, and give their space back."""
    from flatout.caches import prune as remove
    from flatout.config.settings import age
    from flatout.errors import ConfigError

    if (older_than is None) is not everything:
        raise ConfigError("say what to remove: --older-than 30d, for example, or --all")
    limit = age("--older-than", older_than)
    place = _place(file)
    removed, left = remove(place, time.time() - limit if limit is not None else float("inf"))
    say(f"flatout: removed {figures.counted(removed, 'answer')} from {clean(str(place))}; {figures.count(left)} left")
    return 0


def export(
    file: File = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; by default to standard output.")
    ] = "-",
) -> int:
    """Write every kept answer as one line of JSON: its question, answer, age and cost. A file's newest come first."""
    from flatout.caches import reader

    with reader(_place(file)) as kept:
        lines = (_exported(entry) for entry in kept.entries())
        if output == "-":
            for line in lines:
                show(line)
        else:
            _write(output, lines)
    return 0


def _exported(entry: Entry) -> str:
    kept = entry.kept
    return json.dumps({"at": kept.at, "cost": kept.cost, "asked": _asked(entry), "answer": _decoded(kept.said)})


def _write(output: str, lines: Iterable[str]) -> None:
    from flatout.errors import ConfigError

    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror or error}") from None


def _place(file: str | None) -> Name:
    from flatout.config.settings import default_cache

    return default_cache() if file is None else file


def _facts(size: Size) -> Iterable[Fact]:
    yield "cost", figures.cost_in_words(size.cost, size.unpriced, "answer")
    now = time.time()
    if size.oldest is not None and size.newest is not None:
        yield "age", f"{figures.duration(now - size.newest)} to {figures.duration(now - size.oldest)}"
    yield "size", f"{figures.short(size.bytes)} bytes"
    yield "newest", ""


def _line(entry: Entry) -> str:
    asked = _asked(entry)
    question = asked.get("prompt") or json.dumps(asked.get("messages"), ensure_ascii=False)
    model = clean(str(asked.get("model", "")), _WIDTH)
    return f"{figures.duration(time.time() - entry.kept.at)} ago  {model}  {clean(str(question), _WIDTH)}"


def _asked(entry: Entry) -> dict[str, Any]:
    asked = _decoded(entry.asked)
    return asked if isinstance(asked, dict) else {}


def _decoded(data: bytes) -> Any:
    """A JSON value; None if the text is no JSON. The file may come from anybody."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _question(item: Item, job: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What a row asked, in the form of the cache."""
    from flatout.durable.asked import located, shortened
    from flatout.errors import ConfigError

    if item.prompt is None:
        raise ConfigError(f"{place} holds no prompts (--no-prompts), so there is nothing to compare")
    made = json.loads(item.prompt)
    made.setdefault("model", job.get("model"))
    return dict(located(shortened(made), job.get("server")))


def _not_kept(item: Item) -> str:
    """Why the answer of a row is not kept itself, so that the same question will be asked again."""
    if item.state != "answered":
        return "The row has no answer, and errors are never kept."
    if item.finish_reason == "length":
        return "The row's own answer was cut off at the token limit, and such answers are never kept."
    return ""


def _reason(row: int, question: Mapping[str, Any], nearest: Entry | None) -> str:
    from flatout.durable.asked import first_difference, shared_beginning
    from flatout.text.changed import changed

    if nearest is None:
        return f"The cache held nothing when row {row} was asked."
    asked = _asked(nearest)
    ago = figures.duration(time.time() - nearest.kept.at)
    found = first_difference(asked, question)
    if found is None:
        return (
            f"The cache has an answer to the question of row {row}, kept {ago} ago. It was too old, did not fit the "
            "row's output, or came from another port of this machine or another version of the API."
        )
    path, old, new = found
    if alike := shared_beginning(old, new):
        return (
            f"The nearest kept question ({ago} ago) differs in {clean(path)}, after its first {alike} characters, "
            "which is all that is kept of a long text."
        )
    was, now = (None if value is None else json.dumps(value, ensure_ascii=False) for value in (old, new))
    return f"The nearest kept question ({ago} ago) differs in {clean(path)}: {clean(changed(was, now))}"
