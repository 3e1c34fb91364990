"""
Every hostile notebook of ``tests/attacks``, graded as a class is, beside honest work.

The class of a call is what was selected: ``-k network`` grades those alone. The quick ones run
with the kernel tests, all of them with ``tox -e attacks``.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attacking import Bait, bait, copy_workshop, families, grade, hand_in, host_state
from conftest import RIGHT_CELLS, ROOT, write_notebook
from ordinary import ordinary_user

from nbassay.records import Results, SubmissionResult

pytestmark = pytest.mark.kernel

FAMILIES = families()
ATTACKS = {
    f"{family}/{name}": attack
    for family, one in FAMILIES.items()
    for name, attack in one.attacks.items()
}
HONEST = ("aa-honest", "zz-honest")
HOST_MEMORY_KB = 200 << 10
# Reordering and invisible characters, and all that a terminal obeys.
ACTING = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufffe\uffff\U000e0000-\U000e007f]"
)


@dataclasses.dataclass(kw_only=True)
class Graded:
    """One hostile class after it was graded."""

    names: list[str]
    digests: dict[str, str]
    out: Path
    done: subprocess.CompletedProcess[str]
    peak_kb: int
    results: Results
    reached: list[str]
    survivors: list[str]
    changed: list[str]
    alone: Results
    """The honest notebook and the controls, graded with nobody else."""
    token: str

    def result(self, name: str) -> SubmissionResult:
        (one,) = [one for one in self.results.submissions if one.digest == self.digests[name]]
        return one

    def folder(self, name: str) -> Path:
        return self.out / "learners" / self.result(name).learner


def parameters() -> list[Any]:
    return [
        pytest.param(name, id=name, marks=[] if attack.quick else [pytest.mark.attacks])
        for name, attack in ATTACKS.items()
    ]


EACH = pytest.mark.parametrize("name", parameters())


@pytest.fixture(scope="module", params=["fresh", "warm"])
def classes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Graded]]:
    """The selected attacks, graded: bombs one at a time, the others two at once."""
    asked = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and "name" in item.callspec.params
    ]
    quick = [name for name, attack in ATTACKS.items() if attack.quick]
    selected = list(dict.fromkeys(asked)) or getattr(request.module, "SELECTED", quick)
    base = tmp_path_factory.mktemp("attacks")
    for folder in (base, *base.parents):
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o755)  # pytest's own are private; the wall is to hide ours
    with bait(base / "host") as laid:
        yield [*_grade_all(selected, laid, request.param)]


def _grade_all(selected: list[str], laid: Bait, mode: str) -> Iterator[Graded]:
    base = laid.base
    workshop = copy_workshop(base / "workshop")
    write_notebook(base / "honest" / "honest.ipynb", *RIGHT_CELLS)
    done, _peak = grade(
        [base / "honest"],
        out=base / "alone",
        workshop=workshop,
        jobs=1,
        secret=laid.token,
        mode=mode,
    )
    assert done.returncode == 0, done.stderr
    alone = msgspec.json.decode((base / "alone" / "results.json").read_bytes(), type=Results)
    bombs = [name for name in selected if FAMILIES[name.partition("/")[0]].one_at_a_time]
    others = [name for name in selected if name not in bombs]
    for names, jobs in ((others, 2), (bombs, 1)):
        if not names:
            continue
        folder, out = base / "class" / str(jobs), base / "out" / str(jobs)
        digests = hand_in({name: ATTACKS[name] for name in names}, folder, laid.told)
        for one in HONEST:
            # not the same code, which would be run once for both
            write_notebook(folder / f"{one}.ipynb", *RIGHT_CELLS, f"# {one}")
        before = host_state(workshop, folder, base / "honest")
        out.parent.mkdir(exist_ok=True)
        done, peak_kb = grade(
            [folder, folder / "moodle.zip"],
            out=out,
            workshop=workshop,
            jobs=jobs,
            secret=laid.token,
            mode=mode,
        )
        assert (out / "results.json").exists(), done.stderr
        boxes = json.loads((out / "run.json").read_text())["used"].values()
        assert {box["are_warm"] for box in boxes} == {mode == "warm"}
        after = host_state(workshop, folder, base / "honest")
        yield Graded(
            names=names,
            digests=digests,
            out=out,
            done=done,
            peak_kb=peak_kb,
            results=msgspec.json.decode((out / "results.json").read_bytes(), type=Results),
            reached=laid.reached(),
            survivors=laid.survivors(),
            changed=sorted(
                path for path in {*before, *after} if before.get(path) != after.get(path)
            ),
            alone=alone,
            token=laid.token,
        )


def printed(folder: Path) -> str:
    """All that the notebook printed."""
    cells = json.loads((folder / "executed.ipynb").read_text())["cells"]
    return "\n".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


# ------------------------------------------------------------------ one by one


@EACH
def test_attack(classes: list[Graded], name: str) -> None:
    """
    An attack earns what its work is worth, is told of, and all that it tried was refused.
    """
    (graded,) = [one for one in classes if name in one.names]
    attack, result = ATTACKS[name], graded.result(name)
    folder = graded.folder(name)

    assert result.status in ([attack.status] if attack.status else ["graded", "needs-review"])
    assert attack.least <= (result.score or 0) <= attack.most, result.notes
    for words in attack.notes:
        assert any(words in note for note in result.notes), (words, result.notes)
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [words for words in attack.hides if words.encode() in content], path
    if attack.script is not None:
        shown = printed(folder)
        lines = shown.splitlines()
        assert [line for line in lines if line.startswith(("GOT ", "BROKEN "))] == []
        refused = sum(line.startswith("HELD ") for line in lines)
        assert refused >= attack.holds + 1, shown


# ------------------------------------------------------------------ the host and the class


def test_nothing_happened_outside(classes: list[Graded]) -> None:
    """
    No file, socket or process of the host was reached, no code of a learner ran there.
    """
    assert [one.reached for one in classes] == [[] for _ in classes]


def test_nothing_lives_on(classes: list[Graded]) -> None:
    """
    No process of any notebook is left.
    """
    assert [one.survivors for one in classes] == [[] for _ in classes]


def test_nothing_was_poisoned(classes: list[Graded]) -> None:
    """
    Installed packages, the engine, the workshop and the submissions are what they were.
    """
    assert [one.changed for one in classes] == [[] for _ in classes]


def test_the_secret_is_nowhere(classes: list[Graded]) -> None:
    """
    A secret of the grader's environment, also in a file that all may read, is in no output.
    """
    found = [
        path
        for one in classes
        for path in one.out.rglob("*")
        if path.is_file() and one.token.encode() in path.read_bytes()
    ]

    assert found == []
    assert all(one.token not in one.done.stdout + one.done.stderr for one in classes)


def test_honest_work_is_marked_as_without_them(classes: list[Graded]) -> None:
    """
    Controls and honest notebooks come out as they do in a class of their own, before and after.
    """
    for one in classes:
        (expected,) = one.alone.submissions
        assert expected.score == 100
        assert one.results.controls == one.alone.controls
        honest = [sheet for sheet in one.results.submissions if sheet.learner in HONEST]
        assert [(sheet.score, sheet.status, sheet.checks, sheet.notes) for sheet in honest] == [
            (expected.score, expected.status, expected.checks, expected.notes)
        ] * 2


def test_nobody_is_lost(classes: list[Graded]) -> None:
    """
    Every file handed in has its sheet and its report, and the call ends as it should.
    """
    for one in classes:
        learners = [sheet.learner for sheet in one.results.submissions]
        assert len(learners) == len(one.names) + len(HONEST)
        assert one.done.returncode == 0, one.done.stderr
        assert all((one.out / "learners" / name / "report.html").exists() for name in learners)


def test_the_grader_stays_small(classes: list[Graded]) -> None:
    """
    The host's process takes less than 200 MB, whatever the notebooks send.
    """
    assert [one.peak_kb for one in classes if one.peak_kb >= HOST_MEMORY_KB] == []


# ------------------------------------------------------------------ what people read


class Markup(HTMLParser):
    """Notes what could act on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.active: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag in {"iframe", "object", "embed", "base", "form", "foreignobject", "animate"}:
            self.active.append((tag, None))
        for name, value in attrs:
            target = (value or "").strip().lower()
            if name.startswith("on") or (
                name in {"href", "src", "action", "xlink:href", "srcset", "data", "formaction"}
                and re.match(r"[a-z][a-z0-9+.-]*:|//", target)
                and target != "data:,"  # our empty icon
                and not target.startswith("data:image/png;base64,")
            ):
                self.active.append((name, value))


def test_pages_are_inert(classes: list[Graded]) -> None:
    """
    No page holds a script, handler, frame or outside address of a learner's, or a hidden letter.
    """
    pages = [path for one in classes for path in one.out.rglob("*.html")]
    for page in pages:
        text = page.read_text("utf-8")
        markup = Markup()
        markup.feed(text)
        assert markup.scripts == (page.name == "index.html"), page
        assert markup.active == [], page
        assert ACTING.findall(text) == [], page
    assert pages


def test_executed_notebooks_are_inert(classes: list[Graded]) -> None:
    """
    executed.ipynb holds plain text and pictures only, with nothing that a terminal obeys.
    """
    for one in classes:
        for path in one.out.rglob("executed.ipynb"):
            notebook = json.loads(path.read_text("utf-8"))
            assert ACTING.findall(path.read_text("utf-8")) == [], path
            kinds = {cell["cell_type"] for cell in notebook["cells"]}
            outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
            shown = {kind for output in outputs for kind in output.get("data", {})}
            assert kinds <= {"code", "raw"}, path
            assert shown <= {"text/plain", "image/png"}, path
            assert all(cell["metadata"] == {} for cell in notebook["cells"]), path
            texts = [*strings(outputs)]
            assert [text for text in texts if ACTING.search(text)] == [], path


def strings(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from strings(one)


def test_tables_are_inert(classes: list[Graded]) -> None:
    """
    No cell of the gradebook is a formula, JUnit is well-formed, the terminal is told text only.
    """
    for one in classes:
        with (one.out / "gradebook.csv").open(newline="", encoding="utf-8") as file:
            rows = [*csv.reader(file)]
        cells = [cell for row in rows for cell in row]
        assert len({len(row) for row in rows}) == 1
        formulas = [cell for cell in cells if re.match(r"[\s\W]*[=+\-@＝＋－＠]", cell)]
        assert [cell for cell in formulas if cell[0] != "'"] == []
        junit = (one.out / "junit.xml").read_text("utf-8")
        ElementTree.fromstring(junit)
        for text in ("".join(cells), junit, one.done.stdout, one.done.stderr):
            assert ACTING.findall(text) == []


# ------------------------------------------------------------------ as somebody else


@pytest.mark.attacks
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs these tests already")
def test_the_corpus_as_an_ordinary_user() -> None:
    """
    All of it holds for a class that an ordinary user grades.
    """
    command = ordinary_user()
    if command is None:
        pytest.skip("no interpreter with our packages that other users may read")

    result = subprocess.run(
        [*command, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


# ------------------------------------------------------------------ the corpus itself


def test_the_threat_model_names_what_is_only_bounded() -> None:
    """
    An attack that earns what it did not do is told of in docs/threat-model.md, and no other is.
    """
    page = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
    told = set(re.findall(r"`([a-z-]+/[a-z-]+)`", page))

    assert {name for name, attack in ATTACKS.items() if attack.bounded} <= told
    assert told <= {*ATTACKS}


def test_the_corpus_is_whole() -> None:
    """
    There are sixty attacks in a dozen families at least, each with its own words.
    """
    titles = [attack.title for attack in ATTACKS.values()]

    assert len(FAMILIES) >= 12
    assert len(titles) == len(set(titles)) >= 60
