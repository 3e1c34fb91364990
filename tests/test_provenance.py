"""Signs that work was brought along, found in code and facts."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from test_evidence import evidence_with

from nbassay.challenge import Outcome
from nbassay.inside.source import read_code
from nbassay.observed import Candidate, Observed
from nbassay.pristine import Pristine
from nbassay.provenance import contradictions, doubts_of, provenance_of, signs
from nbassay.records import (
    Data,
    Fact,
    FitFact,
    Measurement,
    ModelFact,
    RemarkFact,
)

LAB = "history = model.fit(x_train, y_train, epochs=10)\nmodel.evaluate(x_test, y_test)"
BEFORE, AFTER = "a" * 64, "b" * 64
PRISTINE = Pristine({}, 255, 10)


def state(number: int, weights: str) -> ModelFact:
    return ModelFact(
        cell=1,
        model=0,
        state=number,
        kind="Sequential",
        name=None,
        layers=[],
        steps=[],
        why_not=None,
        gap=0.0,
        compiled=None,
        weights=weights,
    )


def fit(accuracy: float = 0.96) -> FitFact:
    return FitFact(
        cell=1,
        model=0,
        before=0,
        state=1,
        data=Data(kind="arrays", x=None),
        validation=None,
        validation_split=0.0,
        epochs_asked=2,
        epochs_run=2,
        batch_size=32,
        history={"accuracy": [0.5, accuracy], "loss": [1.0, 0.2]},
        error=None,
    )


TRAINED: list[Fact] = [state(0, BEFORE), state(1, AFTER), fit()]


def candidate(run: Observed) -> Candidate | None:
    return run.candidates()[-1] if run.candidates() else None


def signs_of(run: Observed, accuracy: float) -> list[str]:
    return signs(run, candidate(run), measured(accuracy))


def contradictions_of(run: Observed) -> list[str]:
    return contradictions(run, candidate(run))


def observed(*facts: Fact, code: str = LAB) -> Observed:
    """A run with this code and these facts."""
    evidence = evidence_with([read_code([code]), *facts])
    return Observed(evidence, {}, PRISTINE)


def measured(accuracy: float) -> Measurement:
    return Measurement(
        train_accuracy=accuracy, test_accuracy=accuracy, confusion=None, wrong=[], why_not=None
    )


def test_the_lab_has_no_sign() -> None:
    """
    Plain work shows nothing.
    """
    run = observed(*TRAINED)

    assert signs_of(run, 0.96) == []
    assert contradictions_of(run) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import pickle\nmodel.fit()", "the code uses pickle"),
        ("exec(made)\nmodel.fit()", "the code uses exec"),
        ("keras.Model.evaluate = mine\nmodel.fit()", "the code replaces keras.Model.evaluate"),
        (f"w = {random.Random(0).randbytes(4000).hex()!r}\nmodel.fit()", "long enough to hold"),
        ("!ls\n" * 600 + "model.fit()", "parts of the code could not be read"),
        ("model.train()", "a fit was told of that no cell names"),
    ],
)
def test_signs_of_code(code: str, words: str) -> None:
    """
    What could bring work along, or hide it, is named.
    """
    (found, *_others) = signs_of(observed(*TRAINED, code=code), 0.96)

    assert words in found


def test_signs_of_facts() -> None:
    """
    Weights that were put in, that a fit left alone, or that nobody trained.
    """
    put = RemarkFact(cell=1, topic="weights-loaded", text="Weights were put into a network.")
    still = [state(0, AFTER), state(1, AFTER), fit()]

    assert signs_of(observed(*TRAINED, put), 0.96) == ["weights were put into a network"]
    assert "the same as before" in signs_of(observed(*still), 0.96)[0]
    assert signs_of(observed(state(0, AFTER)), 0.96) == [
        "a network knows 96% of the images, and no fit was seen"
    ]
    assert signs_of(observed(state(0, BEFORE)), 0.11) == []


def test_a_history_of_other_epochs() -> None:
    """
    A fit that tells of more epochs than its history holds is looked at.
    """
    more = msgspec.structs.replace(fit(), history={"accuracy": [0.9, 0.9], "val_loss": [0.1]})
    short = msgspec.structs.replace(fit(), history={"accuracy": [0.9]})

    assert contradictions_of(observed(*TRAINED[:2], more)) == []
    assert "told of 2 epochs" in contradictions_of(observed(*TRAINED[:2], short))[0]


def test_a_history_below_its_network() -> None:
    """
    A network that knows far more than its training told of came from elsewhere; dropout explains
    a little.
    """
    assert (
        "its network reaches 96%"
        in signs_of(observed(state(0, BEFORE), state(1, AFTER), fit(0.4)), 0.96)[0]
    )
    assert signs_of(observed(state(0, BEFORE), state(1, AFTER), fit(0.7)), 0.96) == []


@pytest.mark.parametrize(
    ("code", "is_deep"),
    [
        ("import nbassay.inside.channel", True),
        ("open('/run/nbassay/facts-1', 'ab')", True),
        ("import gc\ngc.get_objects()", True),
        ("%load_ext nbassay\n%assay 5", False),
        ("import gc\ngc.collect()", False),
        ("os.environ['NBASSAY_SCRATCH']", True),
        ("vars(keras.Model)['fit']._self_wrapper(mine)", True),
        ("!pip install nbassay\nprint('with nbassay')", False),
    ],
)
def test_reaching_for_the_grader(code: str, is_deep: bool) -> None:
    """
    Code that reaches for the grader, or for others' objects, is looked at whatever it earns.
    """
    assert bool(contradictions_of(observed(*TRAINED, code=code))) is is_deep


def test_what_a_challenge_makes_of_signs() -> None:
    """
    Passed, it clears them; failed or never made, a person looks.
    """
    found = ["the code uses pickle"]
    never = provenance_of(found, None, is_measured=True)
    well = Outcome(lost=[], is_same_network=False)
    badly = Outcome(lost=["accuracy.test"], is_same_network=True)
    copied = Outcome(lost=[], is_same_network=True)
    passed = provenance_of(found, well, is_measured=True)
    failed = provenance_of([], badly, is_measured=True)
    renamed = provenance_of(found, copied, is_measured=True)

    assert [one.challenge for one in (never, passed, failed, renamed)] == [
        *("not-run", "passed", "failed", "failed"),
    ]
    assert "the code uses pickle" in doubts_of(never, None, is_asked=False)[0]
    assert doubts_of(passed, well, is_asked=False) == []
    assert "accuracy.test" in doubts_of(failed, badly, is_asked=False)[0]
    assert "the same hidden layer" in doubts_of(renamed, copied, is_asked=False)[0]
    assert doubts_of(provenance_of([], None, is_measured=True), None, is_asked=False) == []
    assert len(passed.verified) == len(never.verified) + 1
    assert len(passed.claimed) == len(never.claimed) - 1


def test_renamed_sets() -> None:
    """
    The same rows under other names; what is no renaming is refused.
    """
    from nbassay.pristine import PristineSet

    part = PristineSet(
        name="test",
        features=np.zeros((4, 2), np.uint8),
        labels=np.array([0, 1, 2, 0], np.uint8),
        first=0,
    )
    pristine = Pristine({"test": part}, 255, 3)

    assert pristine.renamed([2, 0, 1]).labels.tolist() == [2, 0, 1, 2]
    assert pristine.labels.tolist() == [0, 1, 2, 0]
    for names in ([0, 1], [0, 1, 1], [3, 0, 1]):
        with pytest.raises(ValueError, match="new names for 3 classes"):
            pristine.renamed(names)
