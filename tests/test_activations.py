"""Activations recognised by their values."""

import numpy as np
import pytest

from nbassay.inside.activations import recognise_activation
from nbassay.network import ACTIVATIONS


@pytest.mark.parametrize("name", ["relu", "softmax", "sigmoid", "tanh", "linear"])
def test_sums_so_large_that_another_function_overflows_are_recognised(name):
    """
    Where one of the functions tried gives infinities, and each value has an allowance of its own,
    the right one is found; NumPy 1 cannot compare that with `isclose`.
    """
    before = np.linspace(-900, 900, 48, dtype=np.float32).reshape(3, 16)
    with np.errstate(all="ignore"):
        after = ACTIVATIONS[name](before)
    blur = np.full(before.shape, 1e-3, np.float32)

    assert recognise_activation(before, after, None, blur) == name


def test_infinities_and_missing_numbers_are_not_taken_for_equal():
    """
    A value that is no number fits no function.
    """
    before = np.array([[1.0, 2.0]], np.float32)

    assert recognise_activation(before, np.array([[1.0, np.nan]], np.float32), None) is None
    assert recognise_activation(before, np.array([[1.0, np.inf]], np.float32), None) is None
