"""Pods that can go to few cards count more than pods that can go anywhere."""

import numpy as np

from scheduler.policies.rarity import rarity


def test_a_class_that_takes_every_card_counts_once() -> None:
    assert rarity(np.array([[True], [True]]), np.array([100, 3])).tolist() == [1.0]


def test_a_class_bound_to_a_sixteenth_of_the_cards_counts_eight_times() -> None:
    takes = np.array([[True, True, False], [True, False, True]])  # classes: any, the 15 cards, the one card

    found = rarity(takes, np.array([15, 1]))

    assert found.round(6).tolist() == [1.0, round((16 / 15) ** 0.75, 6), 8.0]


def test_a_class_that_no_card_serves_and_an_empty_fleet_change_nothing() -> None:
    assert rarity(np.array([[False]]), np.array([4])).tolist() == [1.0]
    assert rarity(np.array([[True]]), np.array([0])).tolist() == [1.0]
