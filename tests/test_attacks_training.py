"""
Networks that were not trained as they claim, with real TensorFlow and the real data.

``tests/attacks/training/attacks.toml`` holds them as changes to the reference. Each states the most
that it may earn and whether a person must look; no mark stands that was not worked for.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from conftest import ROOT
from msgspec import Struct

from nbassay.misconceptions import Way, build_notebook, read_misconceptions
from nbassay.records import Results, SubmissionResult

pytestmark = [pytest.mark.kernel, pytest.mark.tensorflow]

FILE = ROOT / "tests" / "attacks" / "training" / "attacks.toml"
LEFT_BEHIND = Path("/tmp/layer-code-ran-outside")
"""Made by code in layers and pickles, wherever it runs."""


class TrainingAttack(Way, Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of them, and what must come of it."""

    most: float
    """Points that it may show."""
    status: str | None = None
    notes: list[str] = []
    """Each must be in a note."""
    quick: bool = False


def brought() -> str:
    """Code that unpacks a trained network."""
    known = read_misconceptions(ROOT / "reference" / "misconceptions")["weights-brought-along"]
    code, _call, weights = known.cells["train"].partition("model.set_weights(")
    return f"{code}brought = {weights.strip().removesuffix(')')}"


def attacks() -> dict[str, TrainingAttack]:
    """All of them, by name."""
    found = msgspec.toml.decode(FILE.read_bytes(), type=dict[str, TrainingAttack])
    weights = brought()
    return {
        name: msgspec.structs.replace(
            attack,
            cells={
                cell: source.replace("@BROUGHT@", weights) for cell, source in attack.cells.items()
            },
        )
        for name, attack in found.items()
    }


ATTACKS = attacks()


@pytest.fixture(scope="module")
def graded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The selected attacks, graded as a class by the command; ends with 0, so controls held."""
    base = tmp_path_factory.mktemp("training")
    reference = (ROOT / "reference" / "solution.ipynb").read_bytes()
    (base / "class").mkdir()
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_attack:
            name = item.callspec.params["name"]
            raw = build_notebook(ATTACKS[name], reference)
            (base / "class" / f"{name}.ipynb").write_bytes(raw)
    LEFT_BEHIND.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "nbassay", "grade", base / "class", "-o", base / "graded"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield base / "graded"
    LEFT_BEHIND.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if attack.quick else [pytest.mark.attacks])
        for name, attack in ATTACKS.items()
    ],
)
def test_attack(graded: Path, name: str) -> None:
    """
    No mark stands with points that were not worked for: they are lost, or a person is sent to look.
    """
    results = msgspec.json.decode((graded / "results.json").read_bytes(), type=Results)
    (result,) = [one for one in results.submissions if one.learner == name]
    attack = ATTACKS[name]

    assert result.score is not None
    assert result.score <= attack.most, lost(result)
    if attack.status is not None:
        assert result.status == attack.status, (result.score, result.notes)
    for words in attack.notes:
        assert any(words in note for note in result.notes), result.notes
    assert result.status == "needs-review" or result.score < 90  # an accuracy is ten points
    assert not LEFT_BEHIND.exists()


def lost(result: SubmissionResult) -> list[tuple[str, str]]:
    """Checks that did not pass, and what they saw."""
    return [(check.id, check.saw) for check in result.checks if check.outcome != "passed"]


def test_attacks_are_told_apart() -> None:
    """
    Each is another notebook.
    """
    reference = (ROOT / "reference" / "solution.ipynb").read_bytes()
    built = [hashlib.sha256(build_notebook(one, reference)).digest() for one in ATTACKS.values()]

    assert len(set(built)) == len(ATTACKS) >= 12
