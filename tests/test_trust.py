"""The chance that right work fails: figures that reports repeat, and where they come from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from conftest import ROOT
from fresh_reference import reference_again, refuse_known_seeds, submissions_of

from nbassay.errors import ManifestError
from nbassay.intervals import share
from nbassay.notebook import decode_notebook
from nbassay.running import seed_of
from nbassay.trust import Trust, asked, fresh_runs
from nbassay.workshop import Workshop, read_workshop

WORKSHOP = read_workshop(ROOT)
TRUST = Trust(
    command="c",
    date="2026-01-01",
    packages={},
    made_with={},
    bounds=asked(WORKSHOP),
    lost=share(0, 200),
    lost_by_check={},
    first_below=share(2, 200),
    first_below_by_check={"accuracy.train": share(1, 200), "accuracy.test": share(1, 200)},
    repeated=2,
)


def workshop_with(trust: Trust | dict[str, object], folder: Path) -> Workshop:
    """The MNIST workshop with these figures."""
    (folder / "trust.json").write_bytes(msgspec.json.encode(trust))
    manifest = msgspec.structs.replace(WORKSHOP.manifest, trust=str(folder / "trust.json"))
    return Workshop(ROOT, manifest)


def test_figures_reach_the_reports(tmp_path: Path) -> None:
    """
    What was measured under today's bounds is told with the checks that it is about.
    """
    found = fresh_runs(workshop_with(TRUST, tmp_path))

    assert found is not None
    assert (found.runs, found.lost, found.checks) == (200, 0, ["accuracy.train", "accuracy.test"])
    assert found.high == pytest.approx(0.0183, abs=1e-4)


def test_figures_of_other_bounds_are_left_out(tmp_path: Path) -> None:
    """
    A new calibration makes the old figures worthless, and nothing is said until they are new.
    """
    other = msgspec.structs.replace(TRUST, bounds={**TRUST.bounds, "accuracy.train": 0.9})

    assert fresh_runs(workshop_with(other, tmp_path)) is None


def test_without_figures_nothing_is_said() -> None:
    """
    The key is optional.
    """
    manifest = msgspec.structs.replace(WORKSHOP.manifest, trust=None)

    assert fresh_runs(Workshop(ROOT, manifest)) is None


@pytest.mark.parametrize("change", [{"extra": 1}, {"lost": 0}, {"schema": "nbassay/trust/2"}])
def test_figures_that_are_none_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """
    An unknown key, a wrong type and another version are errors with the file's path.
    """
    fields = {**msgspec.to_builtins(TRUST), **change}

    with pytest.raises(ManifestError, match=r"trust\.json"):
        fresh_runs(workshop_with(fields, tmp_path))


def test_figures_decide_no_mark(tmp_path: Path) -> None:
    """
    The workshop's digest, which stands for all that decides marks, does not know them.
    """
    assert workshop_with(TRUST, tmp_path).digest() == WORKSHOP.digest()


def test_the_chance_is_that_of_three_attempts() -> None:
    """
    One attempt in a hundred makes one in a million, and the limit is the interval's, cubed.
    """
    estimate, most = TRUST.chance

    assert estimate == pytest.approx(1e-6)
    assert most == pytest.approx(TRUST.first_below.high**3)


def test_fresh_runs_are_the_reference_under_seeds_of_their_own() -> None:
    """
    Each has the reference's code but for a comment, and a seed that no other run and no run of the
    calibration has.
    """
    reference = WORKSHOP.path(WORKSHOP.manifest.reference).read_bytes()
    submissions = submissions_of(WORKSHOP, 200)
    again = reference_again(reference, 7)

    refuse_known_seeds(WORKSHOP, submissions)
    theirs, ours = decode_notebook(reference).code_cells, decode_notebook(again).code_cells
    assert ours == [(theirs[0][0], f"# fresh run 7\n{theirs[0][1]}"), *theirs[1:]]
    assert decode_notebook(again).notes == ()
    codes = [decode_notebook(one.read()).code_digest for one in submissions]
    assert len({seed_of(code, 0) for code in codes}) == 200


def test_seeds_that_are_not_fresh_are_refused() -> None:
    """
    The same file twice would count one run twice.
    """
    with pytest.raises(SystemExit, match="not fresh"):
        refuse_known_seeds(WORKSHOP, submissions_of(WORKSHOP, 1) * 2)
