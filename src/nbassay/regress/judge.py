"""A page and its run put together: one report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from nbassay.calibration import read_calibration
from nbassay.checking.case import read_bounds
from nbassay.labpage import Code, Page
from nbassay.records import CheckResult, Number
from nbassay.regress.claims import Claim, beside, read_claims
from nbassay.regress.health import health
from nbassay.regress.names import code_findings, text_findings
from nbassay.regress.numbers import Number as Written
from nbassay.regress.pagerun import Answer, Lab, PageRun
from nbassay.regress.report import (
    SCHEMA,
    ArrayReport,
    CellReport,
    ClaimResult,
    Finding,
    Report,
    finding,
)
from nbassay.regress.twice import twice
from nbassay.reporting.text import one_line
from nbassay.workshop import Workshop

MOST_SHOWN = 300

_WARNING = re.compile(
    r"^(?:(?P<where>.*?):(?P<line>\d+): )?(?P<category>\w*Warning): (?P<text>.*)$"
)
_QUOTED = re.compile(r"[`'\"]([A-Za-z_]\w*)[`'\"]")


def require_sound(page: Page, workshop: Workshop) -> None:
    """
    Make sure that a page's claims and links can be used, before anything runs.

    Raises:
        PageError: A claim does not parse, or a link leaves the workshop's folder.
    """
    read_claims(page, checks=list(workshop.manifest.bounds))
    for _found in health(page):
        pass


def regress(page: Page, lab: Lab) -> Report:
    """
    Run a page and hold it against its text, its checks and good order.

    Raises:
        PageError: A claim does not parse, or a link leaves the workshop's folder.
        ManifestError: Checks, rubric or calibration cannot be used.
        KeyboardInterrupt: The run was interrupted.
    """
    claims = read_claims(page, checks=list(lab.workshop.manifest.bounds))
    findings = [*health(page), *code_findings(page), *text_findings(page)]
    beside_findings, unchecked = beside(page, claims)
    sources = [cell.source for cell in page.cells]
    run = lab.run_page(sources, claims)
    bands = bands_of(lab.workshop)
    tested = [
        _tested(claim, run, bands, lab.workshop)
        for claim in claims
        if claim.kind not in ("once", "known")
    ]
    checks = _asked(run.sheet.checks, page)
    findings += beside_findings
    findings += _run_findings(page, run, findings)
    findings += _check_findings(checks, page)
    findings += [
        finding(
            "claim",
            claim.place,
            f"claimed: {result.claim}; {result.saw}",
            cell=result.cell,
        )
        for claim, result in tested
        if result.outcome == "fails"
    ]
    findings += _twice_findings(page, claims, lab)
    return Report(
        schema=SCHEMA,
        page=str(page.source.path or "lab page"),
        variant=page.source.variant,
        environment=run.environment,
        findings=sorted(findings, key=lambda one: (one.severity, one.file, one.line, one.kind)),
        claims=[result for _claim, result in tested],
        unchecked=unchecked,
        checks=checks,
        accuracies={
            name: value
            for name in ("train_accuracy", "test_accuracy")
            if (value := getattr(run.sheet, name)) is not None
        },
        bands=bands,
        cells=[
            CellReport(
                cell=number + 1,
                file=cell.place.file,
                line=cell.place.line,
                status=run.cells[number].status if number in run.cells else "not-run",
                seconds=run.cells[number].seconds if number in run.cells else 0.0,
                warnings=list(run.cells[number].warnings) if number in run.cells else [],
            )
            for number, cell in enumerate(page.cells)
        ],
        arrays=arrays_of(run),
        seconds=round(run.seconds, 1),
        ending=run.ending,
    )


def arrays_of(run: PageRun) -> list[ArrayReport]:
    """The arrays that a page's cells left, in the order in which they were seen."""
    return [
        ArrayReport(
            cell=cell + 1,
            name=fact.array.name or "?",
            shape=list(fact.array.shape),
            dtype=fact.array.dtype,
            low=_short(fact.array.low),
            high=_short(fact.array.high),
        )
        for cell, fact in run.arrays
    ]


def bands_of(workshop: Workshop) -> dict[str, list[float]]:
    """Check id → lowest and highest accuracy of right solutions; the nominal value without runs."""
    bounds = read_bounds(workshop)
    name = workshop.manifest.calibration
    calibration = None if name is None else read_calibration(workshop.path(name))
    return {
        check_id: [
            bound.value,
            1.0
            if calibration is None
            else max(
                getattr(run, workshop.manifest.bounds[check_id].measure) for run in calibration.runs
            ),
        ]
        for check_id, bound in bounds.items()
    }


# ---------------------------------------------------------------- claims


def _tested(
    claim: Claim, run: PageRun, bands: Mapping[str, Sequence[float]], workshop: Workshop
) -> tuple[Claim, ClaimResult]:
    """A claim and how it came out."""
    outcome, saw = _outcome(claim, run, bands, workshop)
    result = ClaimResult(
        file=claim.place.file,
        line=claim.place.line,
        cell=None if claim.cell is None else claim.cell + 1,
        claim=claim.text,
        outcome="not-reached" if outcome is None else "holds" if outcome else "fails",
        saw=saw,
    )
    return claim, result


def _outcome(
    claim: Claim, run: PageRun, bands: Mapping[str, Sequence[float]], workshop: Workshop
) -> tuple[bool | None, str]:
    """Whether a claim holds, None if that could not be asked, and what was seen."""
    cell = run.cells.get(claim.cell if claim.cell is not None else -1)
    if cell is None or cell.status != "ok":
        return None, f"its cell ended as {cell.status if cell else 'not-run'}"
    match claim.kind:
        case "output":
            shown = " ".join(run.shown.get(claim.cell or 0, "").split())
            return (
                " ".join(claim.subject.split()) in shown,
                f"the cell showed {one_line(shown, limit=MOST_SHOWN)!r}",
            )
        case "picture":
            return cell.pictures > 0, f"the cell showed {cell.pictures} pictures"
        case "time":
            return cell.seconds <= claim.expected, f"it took {cell.seconds:.1f} s"
        case "accuracy":
            return _accuracy(claim, run, bands[claim.subject], workshop)
    answer = run.answers.get(claim)
    if answer is None:
        return None, "the kernel did not answer"
    if not answer.has_value:
        return False, f"{claim.subject} cannot be told: {one_line(str(answer.value))}"
    return _value(claim, answer)


def _accuracy(
    claim: Claim, run: PageRun, band: Sequence[float], workshop: Workshop
) -> tuple[bool | None, str]:
    measured = getattr(run.sheet, workshop.manifest.bounds[claim.subject].measure)
    low, high = band
    if measured is None:
        return None, "no accuracy was measured"
    saw = f"measured {measured:.4f}, right solutions reach {low:.4f} to {high:.4f}"
    if claim.expected is None:
        return low <= measured <= high, saw
    (number,) = claim.numbers or [Written(text="", value=claim.expected, step=0.0)]
    half = number.step / 2
    fits = low - half <= claim.expected <= high + half
    return fits and low <= measured <= high, saw


def _value(claim: Claim, answer: Answer) -> tuple[bool, str]:
    saw = f"{claim.subject} is {one_line(_shown(answer.value, claim), limit=MOST_SHOWN)}"
    return _equal(claim.expected, answer.value, claim.tolerance), saw


def _shown(value: object, claim: Claim) -> str:
    if claim.kind == "shape" and isinstance(value, list):
        return str(tuple(value))
    return json.dumps(value, ensure_ascii=False)


def _equal(expected: object, found: object, tolerance: float | None) -> bool:
    """Whether a value from a kernel, as JSON has it, is what was claimed."""
    if isinstance(expected, (tuple, list)):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(_equal(one, two, tolerance) for one, two in zip(expected, found, strict=True))
        )
    is_number = isinstance(expected, (int, float)) and not isinstance(expected, bool)
    if is_number and isinstance(found, (int, float)) and not isinstance(found, bool):
        return abs(float(found) - float(expected)) <= (tolerance or 0.0) + 1e-12  # type: ignore[arg-type]
    return type(expected) is type(found) and expected == found


# ---------------------------------------------------------------- what the run shows


def _run_findings(page: Page, run: PageRun, before: Sequence[Finding]) -> Iterator[Finding]:
    undefined = {(one.cell, one.change) for one in before if one.kind == "name-undefined"}
    broken = {one.cell for one in before if one.kind == "code-syntax"}
    if run.ending != "finished":
        yield finding(
            "run-ended", page.source.place(0), f"the run ended early: {run.message or run.ending}"
        )
    for number, cell in enumerate(page.cells):
        fact = run.cells.get(number)
        if fact is None:
            continue
        if fact.status in ("error", "timeout") and number + 1 not in broken:
            message = one_line(fact.error_message or "", limit=MOST_SHOWN)
            name = re.search(r"name '(\w+)' is not defined", message)
            if name and (number + 1, name[1]) in undefined:
                continue
            yield finding(
                "cell-stopped",
                cell.place,
                f"cell {number + 1} stops with {fact.error_name}: {message}",
                cell=number + 1,
            )
        for warning in dict.fromkeys(fact.warnings):
            yield _warning(warning, number, cell, page)


def _warning(warning: str, number: int, cell: Code, page: Page) -> Finding:
    """A library's warning, with the line of the cell that it is about, if that can be told."""
    match = _WARNING.match(warning)
    category, text = (match["category"], match["text"]) if match else ("Warning", warning)
    lines = cell.source.split("\n")
    at: int | None = None
    if match and match["line"] and "ipykernel" in match["where"]:
        at = int(match["line"]) - 1 if int(match["line"]) <= len(lines) else None
    if at is None:
        at = _line_about(text, lines)
    return finding(
        "warning",
        cell.place if at is None else page.place_of(cell, at),
        f"cell {number + 1} raises {category}: {one_line(text, limit=MOST_SHOWN)}",
        cell=number + 1,
        change=None if at is None else lines[at].strip(),
    )


def _line_about(text: str, lines: Sequence[str]) -> int | None:
    """The line of a cell that has a word which the warning quotes."""
    for word in _QUOTED.findall(text):
        for number, line in enumerate(lines):
            if re.search(rf"\b{re.escape(word)}\b", line):
                return number
    return None


def _asked(checks: Sequence[CheckResult], page: Page) -> list[CheckResult]:
    """Checks of the tasks that the page has; all of them if its tasks have no numbers."""
    tasks = {one.task[1] for one in page.headings if one.task is not None}
    return [one for one in checks if not tasks or one.step in tasks]


def _check_findings(checks: Sequence[CheckResult], page: Page) -> Iterator[Finding]:
    for check in checks:
        if check.outcome == "passed":
            continue
        place = next(
            (one.place for one in page.headings if one.task and one.task[1] == check.step),
            page.source.place(0),
        )
        yield finding(
            "check",
            place,
            f"{check.id} is {check.outcome} (step {check.step}): wanted: {one_line(check.wanted)}"
            + (f"; saw: {one_line(check.saw, limit=MOST_SHOWN)}" if check.saw else ""),
        )


def _twice_findings(page: Page, claims: Sequence[Claim], lab: Lab) -> Iterator[Finding]:
    told = {claim.cell for claim in claims if claim.kind == "once"}
    for number, (names, error) in twice([cell.source for cell in page.cells], lab).items():
        if number in told:
            continue
        cell = page.cells[number]
        why = f"stops with {error}" if error else f"changes {', '.join(names)} again"
        yield finding(
            "twice",
            cell.place,
            f"cell {number + 1} {why} when it is run a second time; give the result a new name, or "
            "tell the learner and mark it with the claim 'once'",
            cell=number + 1,
            change=_line_that_sets(names, cell),
        )


def _line_that_sets(names: Sequence[str], cell: Code) -> str | None:
    for line in cell.source.split("\n"):
        if any(re.match(rf"\s*{re.escape(name)}\b.*=", line) for name in names):
            return line.strip()
    return None


def _short(value: Number | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
