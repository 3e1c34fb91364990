"""Which value that `evaluate` returned is which."""

import pytest

from nbassay.inside.hooks import _returned


class Model:
    """As much of a Keras model as is asked: results in one order, values in another."""

    def __init__(self, results, order):
        self._results, self._order = results, order

    def get_metrics_result(self):
        return dict.fromkeys(self._results, 0.0)

    def _flatten_metrics_in_order(self, logs):
        values = [logs[name] for name in self._order if name in logs]
        return values[0] if len(values) == 1 else values


@pytest.mark.parametrize("results", [("loss", "accuracy"), ("accuracy", "loss")])
def test_values_are_named_in_the_order_in_which_they_are_returned(results):
    """
    A loss is not taken for an accuracy, however the results are sorted.
    """
    model = Model(results, ("loss", "accuracy"))

    assert _returned(model, [0.1851, 0.944]) == {"loss": 0.1851, "accuracy": 0.944}


def test_a_single_value_is_the_loss():
    """
    Without metrics there is one value, not in a list.
    """
    assert _returned(Model(("loss",), ("loss",)), 0.25) == {"loss": 0.25}


def test_values_of_a_model_that_does_not_tell_are_numbered():
    """
    Where names and values do not fit, nothing is called an accuracy.
    """
    assert _returned(object(), [0.5, 0.25]) == {"value 0": 0.5, "value 1": 0.25}
    assert _returned(Model(("loss",), ("loss",)), [0.5, 0.25]) == {"value 0": 0.5, "value 1": 0.25}
