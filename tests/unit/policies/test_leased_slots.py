"""A worker's end of a number in flight that workers on several machines share."""

from __future__ import annotations

from flatout.policies.pacing.leased_slots import LeasedMembers


def test_a_worker_that_has_more_than_its_part_gives_a_slot_up_as_soon_as_a_call_ends():
    """A worker that came later would stand idle until the keeper is asked for something else."""
    asked: list[int] = []
    slots = LeasedMembers(lambda: asked.append(slots.own))
    slots.fits(8.0, 0.0, 0.0)
    slots.granted(8.0, 0.0, 4.0, 0.0)
    for _ in range(8):
        assert slots.fits(8.0, slots.own, 0.0)
        slots.sent(0.0)
    asked.clear()
    slots.ended()
    assert asked == []
    slots.granted(4.0, 4.0, 4.0, 0.1)
    slots.ended()
    assert asked == [6]
