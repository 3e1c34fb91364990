"""What networks answered is kept by content: used again, never trusted blindly, never piled up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import TINY
from test_evidence import evidence_with

from nbassay.answers import Answers
from nbassay.measure import measure
from nbassay.observed import Observed
from nbassay.pristine import read_pristine
from nbassay.records import Array, Data, FitFact, Measurement, ModelFact, Rows, Step
from nbassay.workshop import read_workshop

KERNEL, ROWS = "1" * 64, "0" * 64
WEIGHTS = np.random.default_rng(7).normal(size=(16, 2)).astype(np.float32)


def measured(
    folder: Path | None, *, kernel: np.ndarray = WEIGHTS, scale: float = 1 / 255
) -> tuple[Measurement, Answers]:
    """A network of the tiny workshop, measured; *folder* holds what was measured before."""
    model = ModelFact(
        cell=0, model=0, state=0, kind="Sequential", name=None, layers=[],
        steps=[Step(op="dense", layer="a", kernel=KERNEL)], why_not=None, gap=0.0, compiled=None,
        weights=None,
    )  # fmt: skip
    x = Array(shape=[40, 16], dtype="float32", low=0.0, high=1.0,
              rows=Rows(width=16, count=40, scale=scale, offset=0.0, residual=0.0,
                        digests=ROWS))  # fmt: skip
    fit = FitFact(
        cell=0, model=0, before=None, state=0, data=Data(kind="arrays", x=x), validation=None,
        validation_split=0.0, epochs_asked=1, epochs_run=1, batch_size=None, history={}, error=None,
    )  # fmt: skip
    blobs = {KERNEL: kernel, ROWS: np.arange(40, dtype=np.int32)}
    answers = Answers(folder)
    pristine = read_pristine(read_workshop(TINY))
    observed = Observed(evidence_with([model, fit]), blobs, pristine, answers)
    (candidate,) = observed.candidates()
    found = measure(candidate, observed, train="tiles", test="tiles", largest_gap=1e-3)
    return found, answers


def test_a_kept_answer_is_used(tmp_path: Path) -> None:
    """
    A network that was measured before is not computed again: what is kept under its name counts.
    """
    first, answers = measured(tmp_path)
    (name,) = answers.used
    second, _ = measured(tmp_path)
    answers.put(name, np.zeros(40, np.int64))
    third, _ = measured(tmp_path)

    labels = read_pristine(read_workshop(TINY))["tiles"].labels
    assert first == second
    assert third.test_accuracy == (labels == 0).mean() != first.test_accuracy


SPOILED = {
    "cut": lambda kept: kept[:-1],
    "longer": lambda kept: kept + b"\0",
    "a bit": lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]),
    "empty": lambda kept: b"",
    "of a file with another name": lambda kept: kept[:8] + bytes(24) + kept[32:],
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_answer_is_computed_again(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """
    What is not as it was written is not believed: it is measured again, and mended.
    """
    right, _answers = measured(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))

    again, _ = measured(tmp_path)

    assert again == right
    assert path.read_bytes() == whole


def test_names_tell_networks_and_preparations_apart(tmp_path: Path) -> None:
    """
    Other weights, or another scale, are measured by themselves.
    """
    moved = WEIGHTS.copy()
    moved[3, 1] = np.nextafter(moved[3, 1], np.float32(9))
    names: set[str] = set()
    for kernel, scale in ((WEIGHTS, 1 / 255), (moved, 1 / 255), (WEIGHTS, 1 / 256)):
        names |= measured(tmp_path, kernel=kernel, scale=scale)[1].used

    assert len(names) == 3 == len(list(tmp_path.iterdir()))


def test_what_a_class_no_longer_asks_for_goes(tmp_path: Path) -> None:
    """
    The folder holds the answers of the class as it is now, and files that are none stay.
    """
    measured(tmp_path, kernel=-WEIGHTS)
    (tmp_path / "notes.txt").write_text("an instructor's")
    _found, answers = measured(tmp_path)

    answers.forget_others(answers.used)

    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", *answers.used}


def test_answers_beyond_a_byte_are_not_kept(tmp_path: Path) -> None:
    """
    A network of more outputs than a byte can name is measured right, each time.
    """
    wide = np.zeros((16, 300), np.float32)
    wide[:, 299] = 1.0

    found, _answers = measured(tmp_path, kernel=wide)

    assert found.test_accuracy == 0.0
    assert list(tmp_path.iterdir()) == []
    assert msgspec.json.encode(found) == msgspec.json.encode(measured(None, kernel=wide)[0])


def test_answers_that_cannot_be_kept(tmp_path: Path) -> None:
    """
    Where nothing can be written, what a network answered counts all the same.
    """
    blocked = tmp_path / "measured"
    blocked.write_text("no folder")

    found, answers = measured(blocked)

    assert found.train_accuracy is not None
    assert answers.used
    assert blocked.read_text() == "no folder"
