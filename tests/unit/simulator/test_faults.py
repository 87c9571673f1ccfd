"""Faults are drawn with exact shares from a seeded generator."""

import random
from collections import Counter

import pytest
from pydantic import ValidationError

from trackdesk_simulator.config import Faults
from trackdesk_simulator.faults import Fault, FaultDice


def test_without_faults_nothing_strikes_and_no_chance_is_used() -> None:
    rng = random.Random(1)
    before = rng.getstate()
    assert FaultDice(Faults(), rng).draw() is None
    assert rng.getstate() == before


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_of_probability_one_always_strikes(fault: Fault) -> None:
    name = "error_rate" if fault is Fault.ERROR else fault.value
    dice = FaultDice(Faults.model_validate({name: 1}), random.Random(1))
    assert {dice.draw() for _ in range(100)} == {fault}


def test_shares_come_out_as_they_were_set() -> None:
    dice = FaultDice(Faults(error_rate=0.15, commit_then_drop=0.10, hang=0.05), random.Random(7))
    drawn = Counter(dice.draw() for _ in range(20_000))
    assert drawn[Fault.ERROR] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert drawn[Fault.COMMIT_THEN_DROP] / 20_000 == pytest.approx(0.10, abs=0.01)
    assert drawn[Fault.HANG] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert drawn[None] / 20_000 == pytest.approx(0.70, abs=0.02)


def test_the_same_seed_draws_the_same_faults() -> None:
    faults = Faults(error_rate=0.3, hang=0.3)
    first, second = (FaultDice(faults, random.Random(3)) for _ in range(2))
    assert [first.draw() for _ in range(200)] == [second.draw() for _ in range(200)]


def test_errors_come_in_bursts_of_the_set_length() -> None:
    dice = FaultDice(Faults(error_rate=0.05, error_burst=4), random.Random(5))
    runs = "".join("E" if dice.draw() is Fault.ERROR else "." for _ in range(2_000)).split(".")
    lengths = {len(run) for run in runs if run}
    assert lengths
    assert all(length >= 4 for length in lengths)


def test_a_burst_ends_when_errors_are_switched_off() -> None:
    dice = FaultDice(Faults(error_rate=1, error_burst=100), random.Random(5))
    assert dice.draw() is Fault.ERROR
    dice.load(Faults(hang=1))
    assert dice.draw() is Fault.HANG


def test_error_statuses_are_the_set_ones() -> None:
    dice = FaultDice(Faults(error_rate=1, error_statuses=(502, 504)), random.Random(1))
    assert {dice.error_status() for _ in range(50)} == {502, 504}


def test_probabilities_above_one_in_all_are_refused() -> None:
    with pytest.raises(ValidationError, match="add up to more than 1"):
        Faults(hang=0.6, error_rate=0.5)
