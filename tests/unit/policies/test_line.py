"""The order in which the calls to one target go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flatout.policies.pacing.line import Line


class Entry:
    """A call in the line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = 0.0
        self.left = True


def order(line: Line[Entry], *, troubled: bool = False) -> str:
    """The names of the calls in the order in which they go."""
    names = ""
    while queue := line.next(troubled=troubled):
        names += line.pop(queue, troubled=troubled).name
    return names


def test_first_come_first_served_but_retries_are_a_share():
    """A target that fails half of its calls would be kept busy with those alone, and no new row ever be asked."""
    line: Line[Entry] = Line(0.2)
    line.first.extend(map(Entry, "abcdefghij"))
    line.again.extend(map(Entry, "1234"))
    assert order(line) == "abcd1efgh2ij34"


def test_what_was_sent_back_goes_first_the_oldest_before_the_others():
    """The first row of a file would be overtaken by all that came after it."""
    line: Line[Entry] = Line(0.2)
    line.first.extend(map(Entry, "ab"))
    line.put_back(Entry("2"), 2.0)
    line.put_back(Entry("1"), 1.0)
    line.put_back(Entry("3"), 3.0)
    assert order(line) == "123ab"


def test_every_second_look_at_a_target_in_trouble_is_a_new_call():
    """A dozen calls that always fail would be all that looks at a target, and would hold up everybody else's."""
    line: Line[Entry] = Line(0.2)
    line.first.extend(map(Entry, "abcd"))
    line.again.extend(map(Entry, "xy"))
    for name in "1234":
        line.put_back(Entry(name), float(name))
    assert order(line, troubled=True) == "a1b2cxd34y"


def test_the_first_look_at_a_target_in_trouble_is_a_new_call():
    """A used-up quota would be found out half a second later: the refused call, asked again, tells of itself alone."""
    line: Line[Entry] = Line(0.2)
    line.first.extend(map(Entry, "ab"))
    assert line.pop(line.next()).name == "a"  # sent, and refused
    line.put_back(Entry("a"), 1.0)
    assert order(line, troubled=True) == "ba"


def test_calls_leave_whether_they_go_or_not():
    """A cancelled call would be sent; or a stopped service's calls wait for ever."""
    line: Line[Entry] = Line(0.2)
    a, b, c = map(Entry, "abc")
    for entry in (a, b, c):
        line.add(entry, retry=entry is c)
    line.remove(b)
    line.remove(b)
    assert len(line) == 2
    assert line.leave(lambda entry: entry.name == "c") == [c]
    assert order(line) == "a"


@given(st.floats(0.05, 1.0), st.lists(st.booleans(), max_size=200))
def test_retries_never_exceed_their_share_while_others_wait(share, retries):
    """A user's bound on retries would not hold."""
    line: Line[Entry] = Line(share)
    for retry in retries:
        (line.again if retry else line.first).append(Entry("r" if retry else "f"))
    names = order(line)
    assert len(names) == len(retries)
    while_others = names[: names.rindex("f") + 1] if "f" in names else ""
    assert while_others.count("r") <= share * len(while_others) + 1e-6
