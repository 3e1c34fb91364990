"""
The pytest plug-in: facts as fixtures, outcomes as records.

By hand: ``pytest checks/ --evidence OUT/learners/ada/evidence``. In a run of a class the engine
starts pytest itself and hands over all cases at once (`nbassay.checking.session`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbassay.authoring import Saw

if TYPE_CHECKING:
    from nbassay.calibration import CalibratedBound
    from nbassay.checking.case import Case
    from nbassay.observed import Candidate, Observed
    from nbassay.pristine import Pristine
    from nbassay.records import Measurement
    from nbassay.workshop import Tolerance

CASES = pytest.StashKey[list["Case"]]()
BOUNDS = pytest.StashKey[Mapping[str, "CalibratedBound"]]()
SAW = pytest.StashKey[Saw]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nbassay", "checks of a notebook lab")
    group.addoption(
        "--evidence",
        metavar="DIR",
        type=Path,
        default=None,
        help="evidence folder of a graded run that the checks are asked about",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "assay(id, step, hint, is_lasting): a check of a notebook lab"
    )
    folder = config.getoption("--evidence")
    if folder is not None:
        _read_by_hand(config, folder)
        config.pluginmanager.register(_Notes())


def _read_by_hand(config: pytest.Config, folder: Path) -> None:
    from nbassay.checking.case import cases_of, read_bounds
    from nbassay.errors import AssayError
    from nbassay.evidence import read_evidence
    from nbassay.observed import Observed
    from nbassay.pristine import read_pristine
    from nbassay.workshop import find_workshop, read_workshop

    try:
        start = Path(config.args[0].partition("::")[0]) if config.args else Path.cwd()
        workshop = read_workshop(find_workshop(start))
        evidence, blobs = read_evidence(folder)
        observed = Observed(evidence, blobs, read_pristine(workshop))
        config.stash[CASES] = cases_of("evidence", observed, workshop)
        config.stash[BOUNDS] = read_bounds(workshop)
    except AssayError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames and metafunc.definition.get_closest_marker("assay"):
        cases = metafunc.config.stash.get(CASES, [])
        metafunc.parametrize(
            "case", cases, ids=[case.name for case in cases], scope="session", indirect=True
        )


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    """The submission and candidate that is being judged."""
    found: Case = request.param
    return found


@pytest.fixture(scope="session")
def observed(case: Case) -> Observed:
    """What the run showed (see `nbassay.observed.Observed`)."""
    return case.observed


@pytest.fixture(scope="session")
def pristine(case: Case) -> Pristine:
    """The lab's data as they should be."""
    return case.observed.pristine


@pytest.fixture(scope="session")
def candidate(case: Case) -> Candidate | None:
    """The network in the state that is being judged; None when none was seen."""
    return case.candidate


@pytest.fixture(scope="session")
def measurement(case: Case) -> Measurement | None:
    """What the grader measured of that network; None when there is none."""
    return case.measurement


@pytest.fixture(scope="session")
def tolerances(case: Case) -> Mapping[str, Tolerance]:
    """Tolerances of ``workshop.toml`` by name."""
    return case.workshop.manifest.tolerances


@pytest.fixture(scope="session")
def bounds(request: pytest.FixtureRequest) -> Mapping[str, CalibratedBound]:
    """Calibrated bounds by check id."""
    return request.config.stash[BOUNDS]


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Saw:
    """Takes notes of what was found."""
    notes: Saw = request.node.stash.setdefault(SAW, Saw())
    return notes


def notes_of(item: pytest.Item) -> Saw:
    """What the check *item*, or a fixture of it, wrote down until now."""
    return item.stash.get(SAW, None) or Saw()


class _Notes:
    """By hand, a check's notes stand beside its result."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any) -> Generator[None, Any, Any]:
        report = yield
        notes = notes_of(item).notes
        if notes and report.when == "call":
            report.sections.append(("saw", "\n".join(notes)))
        return report


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Every check asks about a case, and no two have one id: only one of them would count."""
    functions: dict[str, str] = {}
    for item in items:
        mark = item.get_closest_marker("assay")
        if mark is None:
            continue
        if "case" not in item.fixturenames:
            raise pytest.UsageError(f"{item.nodeid}: a check asks for at least one fact by fixture")
        if len(item.callspec.params) > 1:
            raise pytest.UsageError(f"{item.nodeid}: a check is not parametrized: loop inside it")
        function = item.nodeid.partition("[")[0]
        if functions.setdefault(mark.kwargs["id"], function) != function:
            raise pytest.UsageError(
                f"{function}: a check has an id of its own; {mark.kwargs['id']} is that of "
                f"{functions[mark.kwargs['id']]}"
            )
