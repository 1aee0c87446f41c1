"""The memories of lesson 8, against what theory says of them."""

import numpy as np

from asrkit.lessons.hopfield import AssociativeMemory, Hopfield, hadamard


def test_weights_are_symmetric_and_the_stored_pattern_stays() -> None:
    rng = np.random.default_rng(0)
    patterns = rng.choice([-1.0, 1.0], (3, 60))
    network = Hopfield(patterns)
    np.testing.assert_array_equal(network.weights, network.weights.T)
    assert not network.weights.diagonal().any()
    for pattern in patterns:
        np.testing.assert_array_equal(network.recall(pattern, rng)[0], pattern)


def test_recall_ends_where_no_unit_would_change_and_energy_falls_on_the_way() -> None:
    rng = np.random.default_rng(1)
    network = Hopfield(rng.choice([-1.0, 1.0], (20, 40)))  # far too many to recall
    for _ in range(10):
        state, energies = network.recall(rng.choice([-1.0, 1.0], 40), rng)
        assert np.all(state * (network.weights @ state) >= 0)
        assert energies[-1] < energies[0]
        assert max(np.diff(energies)) <= 1e-12
        assert energies[-1] == network.energy(state)


def test_orthogonal_codes_bring_their_partner_to_mind() -> None:
    codes = hadamard(8)
    np.testing.assert_array_equal(codes @ codes.T, 8 * np.eye(8))
    partners = np.random.default_rng(2).choice([-1.0, 1.0], (8, 5))
    memory = AssociativeMemory(codes, partners)
    np.testing.assert_array_equal(np.sign(codes @ memory.weights), partners)


def test_an_associative_memory_s_energy_falls_until_nothing_changes() -> None:
    rng = np.random.default_rng(3)
    memory = AssociativeMemory(*(rng.choice([-1.0, 1.0], (4, size)) for size in (30, 20)))
    a, b, energies = memory.recall(rng.choice([-1.0, 1.0], 30), np.zeros(20))
    assert max(np.diff(energies)) <= 0
    again = memory.recall(a, b)
    np.testing.assert_array_equal(again[0], a)
    np.testing.assert_array_equal(again[1], b)
