"""Scoring: all cases through one pytest session, outcomes back as records."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol  # what plug-ins that run a test again use

from nbassay.calibration import CalibratedBound
from nbassay.checking.case import Case
from nbassay.checking.plugin import BOUNDS, CASES, notes_of
from nbassay.errors import ManifestError
from nbassay.records import CheckResult
from nbassay.workshop import Workshop

OWN_SETTINGS = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")

LEFT_OUT = (
    # Would change which checks run, or in which order, or let one pass that did not.
    *("cacheprovider", "randomly", "xdist", "hypothesispytest", "subtests"),
    # What they do for each check of each learner takes its time and decides nothing.
    *("logging", "warnings", "unraisableexception", "threadexception", "faulthandler"),
    *("setuponly", "setupplan"),
)
"""Plug-ins of pytest that a class is scored without."""


@dataclasses.dataclass
class Sheet:
    """Outcomes of one case."""

    checks: list[CheckResult]
    numbers: dict[str, str]

    @property
    def score(self) -> float:
        return sum(check.earned for check in self.checks)

    @property
    def is_full(self) -> bool:
        """Whether no sheet could have more points."""
        return all(check.earned == check.points for check in self.checks)


class Recorder:
    """Watches the session and turns reports into check results."""

    def __init__(
        self,
        cases: Sequence[Case],
        bounds: Mapping[str, CalibratedBound],
        rubric: Mapping[str, float],
    ) -> None:
        self._cases = list(cases)
        self._bounds = bounds
        self._rubric = rubric
        self.found: dict[str, dict[str, CheckResult]] = {case.name: {} for case in cases}
        self.numbers: dict[str, dict[str, str]] = {case.name: {} for case in cases}
        self.problems: list[str] = []
        self.check_ids: set[str] = set()
        self.was_interrupted = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[CASES] = self._cases
        config.stash[BOUNDS] = self._bounds

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest keeps Ctrl-C for itself, and calls its own stop after a bad file one, too.
        self.was_interrupted = not excinfo.errisinstance(pytest.Session.Interrupted)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(str(report.longrepr))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        # What checks print goes nowhere, and is no memory.
        with (
            Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            return (yield)

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        # The usual one, without the log that nobody reads.
        runtestprotocol(item, log=False, nextitem=nextitem)
        return True

    @pytest.hookimpl(specname="pytest_runtest_makereport")
    def pytest_makereport_of_what_passed(
        self, item: pytest.Item, call: Any
    ) -> pytest.TestReport | None:
        # Nobody reads more of one where all is well, and where in the source it is takes long.
        if call.excinfo is not None:
            return None
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=(item.nodeid, None, ""),
            keywords={},
            outcome="passed",
            longrepr=None,
            when=call.when,
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: Any, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._record(item, call)
        return report

    def _record(self, item: Any, call: pytest.CallInfo[None]) -> None:
        """Make a result of how the check went, as far as *call*."""
        mark = item.get_closest_marker("assay")
        if mark is None or "case" not in item.callspec.params:
            return
        name = item.callspec.params["case"].name
        check_id = mark.kwargs["id"]
        self.check_ids.add(check_id)
        if call.when == "teardown" and call.excinfo is None:
            return
        if call.when == "setup" and call.excinfo is None:
            return
        saw = notes_of(item)
        outcome, told = _outcome(call.excinfo)
        unseen = item.callspec.params["case"].observed.unseen
        is_open = outcome == "failed" and unseen is not None and not mark.kwargs["is_lasting"]
        points = self._rubric.get(check_id, 0.0)
        notes = [*saw.notes]
        if told and told not in notes:
            notes.append(told)
        if is_open:  # what is missing may have been there
            outcome = "not-reached"
            notes.append(unseen)
        self.numbers[name].update(saw.numbers)
        self.found[name][check_id] = CheckResult(
            id=check_id,
            step=mark.kwargs["step"],
            outcome=outcome,  # type: ignore[arg-type]
            points=points,
            # A broken check is our bug: its points stand until a person has looked.
            earned=points if outcome in ("passed", "broken") else 0.0,
            wanted=_first_paragraph(item.function.__doc__),
            saw="; ".join(notes),
            hint=None if outcome == "passed" else mark.kwargs["hint"],
        )


def score_cases(
    cases: Sequence[Case], workshop: Workshop, bounds: Mapping[str, CalibratedBound]
) -> list[Sheet]:
    """
    Fill in a sheet for every case, in the order given.

    Raises:
        ManifestError: The checks and the rubric do not name the same ids, or a check file cannot
            be read.
    """
    rubric = workshop.manifest.rubric
    recorder = Recorder(cases, bounds, rubric)
    folder = workshop.path(workshop.manifest.checks)
    told = _run_pytest(folder, recorder)
    if recorder.problems:
        raise ManifestError(
            f"{folder}: the checks cannot be read:\n" + "\n".join(recorder.problems)
        )
    if recorder.check_ids != set(rubric):
        raise ManifestError(
            f"{folder}: checks and rubric differ; without a check: "
            f"{sorted(set(rubric) - recorder.check_ids)}, not in the rubric: "
            f"{sorted(recorder.check_ids - set(rubric))}"
            + (f"\n{told}" if not recorder.check_ids else "")
        )
    return [
        Sheet(
            checks=[recorder.found[case.name][check_id] for check_id in rubric],
            numbers=recorder.numbers[case.name],
        )
        for case in cases
    ]


def _run_pytest(folder: Path, recorder: Recorder) -> str:
    """Run the checks in this process; what pytest would print is returned."""
    if not recorder._cases:
        return ""
    printed = io.StringIO()
    arguments = [
        str(folder),
        f"--rootdir={folder}",
        "-c",
        os.devnull,
        "-q",
        "--tb=no",
        "--no-header",
        "--import-mode=importlib",
        "--capture=no",  # done once, by `_nobodys_descriptors`, and not for every check
        "--disable-warnings",
        *(f"-pno:{plugin}" for plugin in LEFT_OUT),
    ]
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        _nobodys_descriptors(),
        _without_own_settings(),
    ):
        code = pytest.main(arguments, plugins=[recorder])
    if recorder.was_interrupted:
        raise KeyboardInterrupt
    if code == pytest.ExitCode.INTERNAL_ERROR:
        raise RuntimeError(f"pytest failed:\n{printed.getvalue()[-4000:]}")
    return printed.getvalue()[-4000:]


@contextlib.contextmanager
def _nobodys_descriptors() -> Iterator[None]:
    """
    Keep programs that checks start from what is ours to read and to write.

    A judge's questions come by standard input, a command's JSON goes by standard output.
    """
    kept = {}
    for number in range(3):
        with contextlib.suppress(OSError):  # a service may have none
            kept[number] = os.dup(number)
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for number in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        os.close(nowhere)
        for number, own in kept.items():
            os.dup2(own, number)
            os.close(own)


@contextlib.contextmanager
def _without_own_settings() -> Iterator[None]:
    """Leave out what somebody set for pytest on this machine: it must not change a mark."""
    kept = {name: os.environ.pop(name) for name in OWN_SETTINGS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _outcome(excinfo: pytest.ExceptionInfo[BaseException] | None) -> tuple[str, str]:
    """Outcome of a check and what its end told."""
    if excinfo is None:
        return "passed", ""
    if excinfo.errisinstance(pytest.skip.Exception):
        return "not-reached", str(getattr(excinfo.value, "msg", ""))
    if excinfo.errisinstance(pytest.fail.Exception):
        return "failed", str(getattr(excinfo.value, "msg", ""))
    if excinfo.errisinstance(AssertionError):
        return "failed", _assertion_message(excinfo.value)
    return "broken", f"the check itself failed: {excinfo.typename}: {excinfo.value}"[:1000]


def _assertion_message(error: BaseException) -> str:
    """The author's own words of ``assert …, "words"``; pytest's explanation is not for learners."""
    text = str(error)
    if not text or text.startswith("assert "):
        return ""
    return text.split("\nassert ", 1)[0]


def _first_paragraph(docstring: str | None) -> str:
    paragraph = (docstring or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split())
