"""The order in which slots of a tenant's budget fall to live, retried and redriven jobs."""

from itertools import pairwise

import pytest

from trackdesk_worker.domain.limits import Shares


@pytest.mark.parametrize(("live", "retry", "redrive"), [(7, 2, 1), (1, 1, 1), (5, 5, 0), (97, 2, 1), (3, 0, 9)])
def test_each_class_gets_as_many_slots_as_its_share(live: int, retry: int, redrive: int) -> None:
    slots = Shares(live, retry, redrive).slots()
    assert (slots.count("l"), slots.count("r"), slots.count("d")) == (live, retry, redrive)
    assert len(slots) == live + retry + redrive


@pytest.mark.parametrize(("live", "retry", "redrive"), [(7, 2, 1), (10, 10, 10), (20, 4, 4), (50, 30, 20), (90, 9, 1)])
def test_the_slots_of_a_class_are_spread_evenly(live: int, retry: int, redrive: int) -> None:
    """However long a stretch, each class has its share of it, give or take one and a half slots."""
    shares = {"l": live, "r": retry, "d": redrive}
    total, slots = live + retry + redrive, Shares(live, retry, redrive).slots()
    for name, share in shares.items():
        for length in range(1, total + 1):
            assert abs(slots[:length].count(name) - length * share / total) < 1.5
        places = [i for i, slot in enumerate(slots + slots) if slot == name]
        assert max(later - earlier for earlier, later in pairwise(places)) < 2 * total / share + 1


def test_a_share_of_nothing_gets_no_slot() -> None:
    assert Shares(1, 0, 0).slots() == "l"
    assert Shares(0, 0, 3).slots() == "ddd"
    assert set(Shares(0, 2, 5).slots()) == {"r", "d"}


def test_live_goes_first_by_default() -> None:
    assert Shares().slots()[0] == "l"
