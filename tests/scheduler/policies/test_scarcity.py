"""Kinds of cards that the workload over-demands cost more."""

import numpy as np

from scheduler.policies.scarcity import PRICE, scarcity


def test_pods_that_accept_every_kind_make_none_scarce():
    assert scarcity(np.array([[5.0], [5.0]]), np.array([100.0, 3.0])).tolist() == [0, 0]


def test_a_kind_that_its_own_pods_over_fill_has_a_price():
    # 10 cards of each kind; a third of the demand must have the first kind, a third the second, a third takes any:
    # even use is possible. With two thirds bound to the first: 13.3 for its 10 cards, 6.7 for the others, 0.67 apart.
    even = scarcity(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), np.array([10.0, 10.0]))
    uneven = scarcity(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([10.0, 10.0]))

    assert even.tolist() == [0, 0]
    assert uneven.tolist() == [round(0.67 * PRICE), 0]


def test_kinds_without_cards_or_without_pods_cost_nothing():
    assert scarcity(np.zeros((2, 0)), np.array([4.0, 0.0])).tolist() == [0, 0]
    assert scarcity(np.array([[1.0], [1.0]]), np.array([4.0, 0.0])).tolist() == [0, 0]
