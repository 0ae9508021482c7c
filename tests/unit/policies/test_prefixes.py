"""Beginnings that prompts share: found whatever their kind, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.policies import prefixes
from flatout.policies.prefixes import Beginning, Beginnings, Place, sharing, text_of


def words(number: int, salt: str = "") -> str:
    return " ".join(f"{salt}word{index}" for index in range(number))


def tokens(text: str) -> float:
    return len(text) / 4


def known(least: float = 50.0) -> Beginnings:
    return Beginnings(tokens, least)


def picked(beginnings: Beginnings, blocks: list[str], most: int = 4, **more) -> list[Place]:
    shared = beginnings.see(blocks, **more)
    return [beginning.place for beginning in beginnings.steps(shared, blocks, most)]


def test_a_common_system_prompt_is_found_to_its_last_character():
    """The marker would stand within it, and its end be paid in full by every row."""
    system, beginnings = words(200), known()
    assert picked(beginnings, ["system", system, "user", words(50, "a")]) == []
    found = picked(beginnings, ["system", system, "user", words(50, "b")])
    assert text_of(["system", system, "user"], found[0]).endswith(system + "\0user")


@pytest.mark.parametrize("length", [100, 1_000, 10_000])
def test_a_common_beginning_of_the_prompts_is_found_but_for_a_small_part(length):
    """Rows made from a template would save nothing, or much less than they could."""
    common, beginnings = words(length) + "\n", known()
    picked(beginnings, [common + words(30, "a")])
    (place,) = picked(beginnings, [common + words(30, "b")])
    assert place.block == 0
    assert place.characters <= len(common)
    assert len(common) - place.characters <= max(prefixes.PIECE, len(common) / prefixes.GROWTH) + prefixes.BREAK


def test_a_beginning_ends_between_words():
    """The model would read two halves of a word, and may answer otherwise."""
    common, beginnings = words(300), known()
    picked(beginnings, [common + words(30, "a")])
    (place,) = picked(beginnings, [common + words(30, "b")])
    assert common[: place.characters].endswith(" ")


def test_prompts_that_share_nothing_or_little_are_left_alone():
    """Writing to a cache costs more than sending, and nobody would read it."""
    beginnings = known()
    for number in range(20):
        assert picked(beginnings, [words(100, f"{number}.")]) == []
    for number in range(5):
        assert picked(beginnings, ["short " + words(100, f"{number}/")]) == []


def test_other_tools_or_parameters_make_another_beginning():
    """A marker would promise a cache that the provider does not read: it covers the tools, too."""
    beginnings, blocks = known(), [words(100)]
    picked(beginnings, blocks, head="a")
    assert picked(beginnings, blocks, head="b") == []
    assert picked(beginnings, blocks, head="a") == [Place(0, len(blocks[0]))]


def test_documents_under_a_common_system_prompt_are_both_found():
    """Several questions about each of many documents would save only the system prompt, or only the documents."""
    system, beginnings = words(200), known()
    for document in range(5):
        for question in range(10):
            places = picked(beginnings, [system, words(400, f"d{document}."), f"question {question}?"])
    assert [place.block for place in places] == [0, 1]


def test_the_one_best_beginning_is_that_which_saves_most():
    """With one key for each pair of equal rows, no two pairs would go to the machine that has their system prompt."""
    system, beginnings = words(400), known()
    for row in range(20):
        for _ in range(2):
            places = picked(beginnings, [system, words(40, f"r{row}.")], most=1)
    assert places == [Place(0, len(system))]


def test_an_attempt_that_is_repeated_is_no_company():
    """A lone call that fails and is tried again would be taken for many, and its prompt be written to the cache."""
    beginnings, blocks = known(), [words(100)]
    for again in (False, True, True):
        assert picked(beginnings, blocks, again=again) == []


def test_the_memory_is_bounded(monkeypatch):
    """A job of a million rows would remember each of them."""
    monkeypatch.setattr(prefixes, "MOST", 500)
    system, beginnings = words(200), known()
    for number in range(2_000):
        places = picked(beginnings, [system, words(60, f"{number}.")])
    assert places == [Place(0, len(system))]  # it was in use all the time, and is still known
    assert len(beginnings._new) + len(beginnings._old) <= 2 * 500 + 50


texts = st.lists(st.sampled_from(["a", "b", "c"]).map(lambda letter: words(80, letter)), min_size=1, max_size=4)


@given(st.lists(texts, min_size=2, max_size=8))
def test_what_is_found_is_common(prompts):
    """A marker would stand behind something that no other prompt has."""
    beginnings = known()
    for number, blocks in enumerate(prompts):
        for place in picked(beginnings, blocks):
            assert any(
                len(other) > place.block and text_of(other, place) == text_of(blocks, place)
                for other in prompts[:number]
            )


def test_a_plan_is_told_what_could_be_saved():
    """`flatout plan` could not say whether the cache is worth it."""
    system = words(300)
    found = sharing((((), [system, words(30, f"{row}.")]) for row in range(100)), tokens, 50)
    assert (found.prompts, found.sharing) == (100, 100)
    assert found.read == pytest.approx(99 * tokens(system), rel=0.01)
    assert found.written == pytest.approx(tokens(system), rel=0.01)
    assert found.tokens == pytest.approx(100 * (tokens(system) + tokens(words(30, "10."))), rel=0.05)
    assert sharing((), tokens, 50) == prefixes.Sharing()


def test_a_beginning_shows_what_it_is():
    """In a debugger it would be an address."""
    assert repr(Beginning(Place(0, 9))) == "Beginning(Place(block=0, characters=9), prompts=2, tokens=None)"
