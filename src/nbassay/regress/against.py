"""
A page beside an older version of it: which cells are others, and what that did.

The old version is a page or a revision of git. Where the code is the same nothing of the old page
is run; where it is not, both run in the same environment, so that only the code differs.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from nbassay.errors import UsageError
from nbassay.labpage import Code, Page, open_page
from nbassay.labpage.code import python_of
from nbassay.regress.judge import arrays_of
from nbassay.regress.pagerun import Lab, PageRun
from nbassay.regress.report import Against, ArrayReport, CellChange, Report
from nbassay.scratch import scratch

SLOWER = 1.5
"""How many times as long a cell must take to be told of."""
ALIKE = 0.5
"""How alike two cells must be for the one to be the other changed, 0..1."""
MOST_PAIRS = 2500
"""Cells times cells that are held against each other; of more, all count as gone and new."""
LONG_S = 2.0
"""Seconds below which no cell's time is told of: they are noise."""


@contextlib.contextmanager
def older_page(old: str, path: Path, *, variant: str | None) -> Iterator[Page]:
    """
    The older version of the page at *path*: another file, or the same one in a revision of git.

    Raises:
        UsageError: *old* is neither.
        PageError: It cannot be read.
    """
    if Path(old).is_file():
        yield _of_then(Path(old), variant)
        return
    with scratch("old") as folder:
        yield _of_then(_checked_out(old, path, folder), variant)


def _of_then(path: Path, variant: str | None) -> Page:
    """An older page for *variant*; one from before there were any is for all of them."""
    whole = open_page(path)
    return open_page(path, variant=variant) if variant and whole.source.variants else whole


def compare(old: Page, new: Page, report: Report, lab: Lab, *, name: str) -> Against:
    """
    What changed from *old* to *new*, and what that did.

    Args:
        report: Of the run of *new*.
        name: What the old version is called.
    """
    changes = list(_changes(old.cells, new.cells))
    if not changes or _same_code(old.cells, new.cells):
        return Against(old=name, summary=_unchanged(old, new, changes), cells=changes, effects=[])
    run = lab.run_page([cell.source for cell in old.cells], [])
    count = f"{len(changes)} cell{'s' if len(changes) > 1 else ''}"
    return Against(
        old=name,
        summary=f"code changed: {count} of {len(new.cells)} (there were {len(old.cells)})",
        cells=changes,
        effects=list(_effects(run, report, changes)),
    )


def _checked_out(revision: str, path: Path, folder: Path) -> Path:
    """
    The page as it was in a revision, with all text files that it may include.

    Raises:
        UsageError: There is no such revision, or the page was not in it.
    """
    where = path.resolve().parent
    top = _git(where, "rev-parse", "--show-toplevel", old=revision).decode().strip()
    found = _git(
        where, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}", old=revision
    )
    commit = found.decode().strip()
    relative = path.resolve().relative_to(Path(top).resolve())
    names = _git(Path(top), "ls-tree", "-r", "-z", "--name-only", commit, old=revision)
    ends = [end for end in (".md", ".json") if f"{end}\0".encode() in names]  # git refuses others
    packed = _git(
        Path(top),
        *("archive", "--format=tar", commit, "--"),
        *(f":(glob)**/*{end}" for end in ends),
        old=revision,
    )
    try:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise UsageError(f"--against {revision}: cannot be unpacked: {error}") from error
    (folder / ".git").mkdir(exist_ok=True)  # links of the page may reach this far
    if not (folder / relative).is_file():
        raise UsageError(f"--against {revision}: {relative} was not there in this revision")
    return folder / relative


def _git(folder: Path, *arguments: str, old: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=False, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--against {old}: git could not be asked: {error}") from error
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(
            f"--against {old}: expected a page, a graded class or a revision of git, found none of "
            f"that name{f' ({told[-1]})' if told else ''}"
        )
    return done.stdout


# ---------------------------------------------------------------- code


def _changes(old: Sequence[Code], new: Sequence[Code]) -> Iterator[CellChange]:
    """Yield cells that are not the same, in the order of the new page."""
    matcher = difflib.SequenceMatcher(
        None, [cell.source for cell in old], [cell.source for cell in new], autojunk=False
    )
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        for before, after in _paired(old, new, range(a, b), range(c, d)):
            yield _change(old, new, before, after)


def _paired(
    old: Sequence[Code], new: Sequence[Code], these: range, those: range
) -> Iterator[tuple[int | None, int | None]]:
    """Pair the most alike cells first, what is before and after them in the same way."""
    pairs = [(one, two) for one in these for two in those]
    ratios = {
        (one, two): difflib.SequenceMatcher(None, old[one].source, new[two].source).ratio()
        for one, two in (pairs if len(pairs) <= MOST_PAIRS else [])
    }
    best = max(ratios, key=lambda pair: ratios[pair], default=None)
    if best is None or (ratios[best] < ALIKE and len(these) != len(those)):
        yield from ((one, None) for one in these)
        yield from ((None, two) for two in those)
        return
    one, two = best
    yield from _paired(old, new, range(these.start, one), range(those.start, two))
    yield one, two
    yield from _paired(old, new, range(one + 1, these.stop), range(two + 1, those.stop))


def _change(
    old: Sequence[Code], new: Sequence[Code], before: int | None, after: int | None
) -> CellChange:
    place = new[after].place if after is not None else old[before or 0].place
    lines = difflib.ndiff(
        [] if before is None else old[before].source.split("\n"),
        [] if after is None else new[after].source.split("\n"),
    )
    return CellChange(
        before=None if before is None else before + 1,
        after=None if after is None else after + 1,
        file=place.file,
        line=place.line,
        diff=[f"{line[0]}{line[2:]}" for line in lines if line[0] in "-+ "],
    )


def _same_code(old: Sequence[Code], new: Sequence[Code]) -> bool:
    """Whether both do the same, but for remarks, blanks and where cells are cut."""
    return _meaning(old) == _meaning(new)


def _meaning(cells: Sequence[Code]) -> list[str]:
    found: list[str] = []
    for cell in cells:
        tree = python_of(cell.source)
        found += [cell.source] if tree is None else [ast.dump(one) for one in tree.body]
    return found


def _unchanged(old: Page, new: Page, changes: Sequence[CellChange]) -> str:
    if [line.text for line in old.source.lines] == [line.text for line in new.source.lines]:
        return "nothing changed"
    if not changes:
        return "code unchanged, packaging changed: every cell is the same, the text around is not"
    if len(old.cells) != len(new.cells):
        return (
            f"code unchanged, packaging changed: the same statements in {len(new.cells)} cells "
            f"instead of {len(old.cells)}"
        )
    return "code unchanged, packaging changed: remarks and blanks of cells are others"


# ---------------------------------------------------------------- what the changes did


def _effects(before: PageRun, after: Report, changes: Sequence[CellChange]) -> Iterator[str]:
    yield from _arrays(arrays_of(before), after.arrays)
    for name in ("train_accuracy", "test_accuracy"):
        then, now = getattr(before.sheet, name), after.accuracies.get(name)
        if _differ(then, now):
            yield f"{name.replace('_', ' ')}: {_share(then)} → {_share(now)}"
    steps = {one.id for one in after.checks}
    then_outcomes = {one.id: one.outcome for one in before.sheet.checks if one.id in steps}
    for check in after.checks:
        if then_outcomes.get(check.id) != check.outcome:
            yield f"check {check.id}: {then_outcomes.get(check.id, 'absent')} → {check.outcome}"
    then_warnings = [w for fact in before.cells.values() for w in fact.warnings]
    now_warnings = [w for cell in after.cells for w in cell.warnings]
    yield from (f"warns no more: {_bare(one)}" for one in _only(then_warnings, now_warnings))
    yield from (f"warns now: {_bare(one)}" for one in _only(now_warnings, then_warnings))
    yield from _stops(before, after)
    yield from _times(before, after, changes)


def _arrays(before: Sequence[ArrayReport], after: Sequence[ArrayReport]) -> Iterator[str]:
    """What each name held in the end, where that is something else."""
    then = {one.name: one for one in before}
    now = {one.name: one for one in after}
    for name in dict.fromkeys([*then, *now]):
        old, new = then.get(name), now.get(name)
        if _told(old) != _told(new):
            yield f"array {name}: {_told(old)} → {_told(new)}"


def _told(one: ArrayReport | None) -> str:
    if one is None:
        return "not there"
    return f"{tuple(one.shape)} {one.dtype}, {one.low} to {one.high}"


def _differ(then: float | None, now: float | None) -> bool:
    if then is None or now is None:
        return then is not now
    return round(then, 4) != round(now, 4)


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _bare(warning: str) -> str:
    """A warning without the file that it was raised in, which differs from run to run."""
    _where, found, rest = warning.partition(": ")
    return rest if found else warning


def _only(some: Sequence[str], others: Sequence[str]) -> list[str]:
    known = {_bare(one) for one in others}
    return list(dict.fromkeys(one for one in some if _bare(one) not in known))


def _stops(before: PageRun, after: Report) -> Iterator[str]:
    then = sum(fact.status != "ok" for fact in before.cells.values())
    now = sum(cell.status != "ok" for cell in after.cells)
    if then != now:
        yield f"cells that stop: {then} → {now}"


def _times(before: PageRun, after: Report, changes: Sequence[CellChange]) -> Iterator[str]:
    """Cells that take another while, compared with what they were before."""
    then = {number + 1: fact.seconds for number, fact in before.cells.items()}
    now = {cell.cell: cell.seconds for cell in after.cells}
    for change in changes:
        if change.before is None or change.after is None:
            continue
        old, new = then.get(change.before, 0.0), now.get(change.after, 0.0)
        if max(old, new) >= LONG_S and max(old, new) >= SLOWER * min(old, new):
            yield f"cell {change.after}: {old:.1f} s → {new:.1f} s"
    if max(before.seconds, after.seconds) >= SLOWER * min(before.seconds, after.seconds):
        yield f"whole page: {before.seconds:.1f} s → {after.seconds:.1f} s"
