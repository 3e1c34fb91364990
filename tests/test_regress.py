"""``nbassay regress``: what it finds in a page with defects, and that it finds nothing without."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY, Nbassay

from nbassay.labpage import PageError, open_page
from nbassay.regress.claims import beside, read_claims
from nbassay.regress.health import health
from nbassay.regress.names import code_findings, text_findings
from nbassay.regress.numbers import numbers_in
from nbassay.regress.report import KINDS
from nbassay.regress.twice import suspicious
from nbassay.workshop import read_workshop

SOUND = (TINY / "lab" / "lab.md").read_text("utf-8")
FIRST, SECOND = "tiles = idx2numpy", "rows = tiles.reshape(40, 16) / 255"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a page into a copy of the tiny workshop."""
    shutil.copytree(TINY, tmp_path / "tiny")

    def page(text: str) -> Path:
        path = tmp_path / "tiny" / "lab" / "lab.md"
        path.write_text(text, encoding="utf-8")
        return path

    return page


def found_in(path: Path) -> list[tuple[str, int]]:
    """Kind and line of all that is found without running the page."""
    page = open_page(path)
    claims = read_claims(page, checks=list(read_workshop(TINY).manifest.bounds))
    findings = [*health(page), *code_findings(page), *text_findings(page)]
    return [(one.kind, one.line) for one in [*findings, *beside(page, claims)[0]]]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def step(number: int, code: str) -> str:
    """A step with code."""
    body = "\n".join(f"    {line}" for line in code.split("\n"))
    return f"{number}. Do.\n\n    ```python\n    <copy>\n{body}\n    </copy>\n    ```\n\n"


# ------------------------------------------------------------------ the page


def test_a_sound_page_has_no_finding(write: Callable[[str], Path]) -> None:
    """
    Nothing is found on a page without defects.
    """
    assert found_in(write(SOUND)) == []


DEFECTS = {
    "step-skipped": (
        SOUND.replace("1. Make each", "2. Make each"),
        [("step-numbers", "2. Make each")],
    ),
    "step-repeated": (
        SOUND + "\n1. Look.\n\n1. Look again.\n\n3. Done.\n",
        [
            ("step-numbers", "1. Look.\n"),
            ("step-numbers", "1. Look again"),
            ("step-numbers", "3. Done"),
        ],
    ),
    "task-skipped": (SOUND.replace("Task 2", "Task 3"), [("task-numbers", "## Task 3")]),
    "task-repeated": (SOUND.replace("Task 2", "Task 1"), [("task-numbers", "## Task 1: Flatten")]),
    "task-starts-wrong": (
        SOUND.replace("Task 2", "Task 3").replace("Task 1", "Task 2"),
        [("task-numbers", "## Task 2")],
    ),
    "image-missing": (
        SOUND + "\n![A tile](images/tile.png)\n",
        [("image-missing", "![A tile]")],
    ),
    "image-case": (
        SOUND + "\n![Bytes](Data/tiles-idx3-ubyte.GZ)\n",
        [("image-case", "![Bytes]")],
    ),
    "html-image-missing": (
        SOUND + '\n<img src="images/tile.png" alt="A tile" width="50%">\n',
        [("image-missing", "<img")],
    ),
    "alt-text": (
        SOUND + "\n![](data/tiles-idx3-ubyte.gz)\n",
        [("alt-text", "![]")],
    ),
    "link-broken": (SOUND + "\n[next](next.md)\n", [("link-broken", "[next]")]),
    "link-above": (SOUND + "\n[checks](../check/x.py)\n", [("link-broken", "[checks]")]),
    "anchor-broken": (SOUND + "\n[up](#task-9)\n", [("link-broken", "[up]")]),
    "fence-unclosed": (
        SOUND.replace(
            "    </copy>\n    ```\n\n    You should see `(40, 4",
            "    </copy>\n\n    You should see `(40, 4",
        ),
        [("unclosed-fence", "    ```python")],
    ),
    "copy-lost": (SOUND.replace("    </copy>\n", "", 1), [("copy-tags", "    ```python")]),
    "include-missing": (SOUND + "\n[](include:more)\n", [("include-missing", "[](include")]),
    "variable-missing": (SOUND + "\n[](var:size)\n", [("variable-missing", "[](var")]),
    "if-unclosed": (SOUND + '\n<if type="a">\nMore.\n', [("if-tags", "<if type")]),
    "does-not-parse": (
        SOUND.replace(SECOND, "rows = tiles.reshape(40, 16 / 255"),
        [("code-syntax", "    ```python\n    <copy>\n    rows")],
    ),
    "used-before": (
        SOUND.replace("print(rows.shape)", "print(rows.shape, total)")
        + "\n"
        + step(2, "total = 1"),
        [("name-undefined", "    ```python\n    <copy>\n    rows")],
    ),
    "never-defined": (
        SOUND.replace("tiles.reshape", "tile.reshape"),
        [("name-undefined", "    ```python\n    <copy>\n    rows")],
    ),
    "misspelt-in-text": (
        SOUND.replace("It takes a moment.", "Call it `lables`."),
        [("name-misspelt", "1. Make each")],
    ),
    "unknown-in-text": (
        SOUND.replace("It takes a moment.", "Look at `x_valid` then."),
        [("name-in-text", "1. Make each")],
    ),
    "text-against-rounded-claim": (
        SOUND.replace("largest value is 1.0.", "largest value is 1.1. From 0.96 on is fine."),
        [("claim-not-in-text", "    You should see `(40, 16)`")],
    ),
    "text-against-claim": (
        SOUND.replace("You should see `(40, 16)`", "You should see `(40, 15)`"),
        [("claim-not-in-text", "    You should see `(40, 15)`")],
    ),
}


@pytest.mark.parametrize(("text", "expected"), DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_found_with_its_line_and_nothing_else(
    write: Callable[[str], Path], text: str, expected: list[tuple[str, str]]
) -> None:
    """
    Each seeded defect is the only finding, on the line where it is.
    """
    assert text != SOUND

    assert sorted(found_in(write(text))) == sorted(
        (kind, line_of(text, part)) for kind, part in expected
    )


SOUND_WAYS = {
    "all-ones": "1. One.\n1. Two.\n1. Three.\n",
    "a-list-inside": "1. One.\n\n    1. Inner.\n    2. Inner.\n\n2. Two.\n\n    1. Inner.\n",
    "inner-headings": "1. One.\n\n### More\n\n2. Two.\n\n### Again\n\n1. One.\n",
    "html": '<img src="data/tiles-idx3-ubyte.gz" alt="Bytes"> <a href="lab.md">this</a>\n',
    "interrupted": "1. One.\n\nWords at the margin.\n\n2. Two.\n",
    "zero": "0. Before.\n1. One.\n",
    "remote": "![A tile](https://example.org/T.PNG), [a video](youtube:a), [mail](mailto:a@b.c)\n",
    "query": "![A tile](data/tiles-idx3-ubyte.gz?raw=true)\n",
    "anchor": "[up](#task-1-load-the-tiles) or [up](#Task1:Loadthetiles)\n",
    "next": "You may now [proceed to the next lab](#next).\n",
    "server": "[elsewhere](/other/workshop)\n",
    "words": "Each `tile` has a `label`; `row` by `row`.\n",
    "library": "`np.reshape`, `idx2numpy`, `convert_from_file`, `uint8`, `ReLU`, `print`.\n",
    "capitals": step(1, "tiles.shape") + "\nIt is in `OCI_CONFIG`, a file `my_notes.csv`.\n",
    "no-python": "It reads `user_accounts` with `fetch_all()`.\n",
    "sql": step(1, "tiles.shape") + "\n```sql\nselect 1\n```\n\nIn `user_accounts` is one.\n",
    "no-such-library": step(
        1, "try:\n        import not_here\n    except ImportError:\n        pass"
    )
    + "\nIt has `other_name`.\n",
    "plural": "Run `ls -l`, press `Ctrl+C`, open `lab.ipynb`.\n",
}


@pytest.mark.parametrize("more", SOUND_WAYS.values(), ids=SOUND_WAYS)
def test_usual_ways_to_write_are_no_defects(write: Callable[[str], Path], more: str) -> None:
    """
    What pages may hold is not taken for a defect.
    """
    assert found_in(write(f"{SOUND}\n## Learn more\n\n{more}")) == []


def test_the_title_of_a_page_is_no_task(write: Callable[[str], Path]) -> None:
    """
    A page that is part 3 of a workshop has its own tasks from 1 on.
    """
    assert found_in(write(SOUND.replace("# Tiles", "# Part 3: Tiles", 1))) == []


def test_a_name_like_those_of_the_code_is_known_anywhere(write: Callable[[str], Path]) -> None:
    """
    On a page of Python alone, a name that begins or ends as one of the code needs no cell near it.
    """
    found = found_in(write(f"{SOUND}\n## Learn more\n\nSee `rows_flat` and `user_accounts`.\n"))

    assert [kind for kind, _ in found] == ["name-in-text"]


@pytest.mark.parametrize("name", ["tilse", "tils", "lables", "tilees"])
def test_a_slip_in_a_name_is_found(write: Callable[[str], Path], name: str) -> None:
    """
    One or two wrong characters make a name of the code misspelt.
    """
    assert [kind for kind, _ in found_in(write(f"{SOUND}\nSee `{name}`.\n"))] == ["name-misspelt"]


# ------------------------------------------------------------------ claims

BAD_CLAIMS = {
    "unknown-kind": ("size tiles = 3", "expected a claim that begins with shape, value"),
    "no-value": ("shape tiles", "expected a claim of the form 'shape NAME = (60000, 784)'"),
    "no-shape": ("shape tiles = forty", "'shape tiles = forty' (it is neither a number, a text"),
    "no-expression": ("value tiles[ = 3", "expected a claim of the form 'value"),
    "no-quotes": ("output forty", "expected a claim of the form 'output"),
    "no-check": ("accuracy train = 0.96", "no accuracy is called 'train'"),
    "no-time": ("time long", "'long' is no running time"),
    "too-much": ("once more", "once stands alone"),
}


def with_claim(claim: str) -> str:
    """A page whose last comment holds a claim on its third line."""
    return f"{SOUND}\nWords.\n\n<!-- nbassay:\nshape rows = (40, 16)\n{claim}\n-->\n"


@pytest.mark.parametrize(("claim", "words"), BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_a_claim_that_does_not_parse_is_an_error(
    write: Callable[[str], Path], claim: str, words: str
) -> None:
    """
    A misspelt claim names its own line and the form that was expected.
    """
    path = write(with_claim(claim))

    with pytest.raises(PageError) as error:
        read_claims(open_page(path), checks=["accuracy.test"])

    assert str(error.value).startswith(f"{path}: line {SOUND.count(chr(10)) + 6}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("before", ["", "\n", "Words. "])
def test_a_claim_that_is_never_closed_is_an_error(
    write: Callable[[str], Path], before: str
) -> None:
    """
    A comment without its end would hide the claim from everybody.
    """
    page = open_page(write(f"{SOUND}\n{before}<!-- nbassay: shape rows = (40, 16)\n\nMore.\n"))
    last = SOUND.count("\n") + 2 + before.count("\n")

    with pytest.raises(PageError, match=f"line {last}: expected --> after a claim"):
        read_claims(page, checks=[])


def test_a_claim_before_the_first_cell_is_an_error(write: Callable[[str], Path]) -> None:
    """
    A claim needs a cell that it is about.
    """
    page = open_page(write("# T\n\n<!-- nbassay: picture -->\n" + SOUND))

    with pytest.raises(PageError, match=r"line 3: expected a cell before a claim, found 'picture'"):
        read_claims(page, checks=[])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (with_claim("size 3"), "expected a claim that begins with shape, value"),
        (f"{SOUND}\n![x](../../../../../../etc/passwd)\n", "a link that stays inside tiny"),
        ("# T\n\nWords.\n", "line 1: expected a block that a learner pastes"),
    ],
    ids=["claim", "link-outside", "no-code"],
)
def test_a_page_that_cannot_be_used_is_refused_before_anything_runs(
    nbassay: Nbassay, write: Callable[[str], Path], text: str, words: str
) -> None:
    """
    Such a page ends with 2 and a message with file and line; nothing is written.
    """
    path = write(text)

    done = nbassay("regress", path, "--markdown", path.parent / "comment.md")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"nbassay: {path}: line" in done.stderr
    assert words in done.stderr
    assert not (path.parent / "comment.md").exists()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("You should see 60,000 and 784.", [60000, 784]),
        ("about 96 %, which is 0.96", [0.96, 0.96]),
        ("95.3% or 7 percent", [0.953, 0.07]),
        ("28 × 28 = 784", [28, 28, 784]),
        ("(10, 784)", [10, 784]),
        ("from -1 to 1.5", [-1, 1.5]),
        ("Task 5, step 2, Python 3.10, x1, uint8, v2.0.1, 1st", []),
    ],
)
def test_numbers_are_read_as_texts_write_them(text: str, numbers: list[float]) -> None:
    """
    Thousands, decimals and percentages are numbers; names of tasks, versions and types are not.
    """
    assert [one.value for one in numbers_in(text)] == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["x = 1", "x = x + 1"], [1]),
        (["x = 1", "x += 1"], [1]),
        (["x = [1]", "x.append(2)"], [1]),
        (["x = {}", "x['a'] = 1"], [1]),
        (["import numpy as np\nx = np.ones(2)", "np.random.shuffle(x)"], [1]),
        (["x = 1", "x = 2\nx += 1"], []),
        (["x = 1", "y = x + 1"], []),
        (["x = 1", "print(x)"], []),
        (["x = 1\nx += 1"], []),
        (["x = 1", "for x in range(3):\n    print(x)"], []),
        (["m = make()", "m.fit(1)"], []),
        (["import os", "os.mkdir('a')"], [1]),
    ],
)
def test_only_cells_that_change_what_was_there_run_twice(
    cells: list[str], expected: list[int]
) -> None:
    """
    A cell is tried again if it reads what an earlier one left and sets or changes it.
    """
    assert [number for number, _names in suspicious(cells)] == expected


# ------------------------------------------------------------------ the run


@pytest.fixture
def report(nbassay: Nbassay, write: Callable[[str], Path]) -> Callable[[str], dict]:
    """Run the command on a page and read its JSON."""

    def run(text: str, *, code: int = 1) -> dict:
        path = write(text)
        done = nbassay("regress", path, "--json", cwd=path.parent.parent)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    return run


def kinds(report: dict) -> Iterator[tuple[str, int | None]]:
    for one in report["findings"]:
        yield one["kind"], one["cell"]


@pytest.mark.kernel
def test_a_sound_page_passes(nbassay: Nbassay) -> None:
    """
    The tiny workshop's own page passes: no finding, every claim holds, every check passes.
    """
    done = nbassay("regress", "--json")
    found = json.loads(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert found["findings"] == []
    assert [one["outcome"] for one in found["claims"]] == ["holds"] * 6
    assert [one["outcome"] for one in found["checks"]] == ["passed"] * 4
    assert found["environment"]["numpy"]
    assert [one["numbers"] for one in found["unchecked"]] == [["16", "0", "1"]]


@pytest.mark.kernel
def test_what_only_a_run_shows_is_found(report: Callable[..., dict]) -> None:
    """
    Errors, warnings, failed checks, false claims and cells that do not bear a second run are found
    in one call, each with its cell.
    """
    text = SOUND.replace(SECOND, "rows = tiles.reshape(40, 16) / 256").replace(
        "value rows.max() = 1.0", 'value rows.max() = 1.000; output "(40, 17)"'
    )
    text += "\n" + step(2, "rows = rows + 1")
    text += step(3, "import warnings\nwarnings.warn('`sum` will go', FutureWarning)\nsum([1])")
    text += step(4, "{}['a']")

    found = report(text)

    assert sorted(kinds(found)) == sorted(
        [
            ("check", None),
            ("claim", 2),
            ("claim", 2),
            ("twice", 3),
            ("warning", 4),
            ("cell-stopped", 5),
        ]
    )
    told = {one["kind"]: one for one in found["findings"]}
    assert told["twice"]["change"] == "rows = rows + 1"
    assert told["twice"]["line"] == line_of(text, "    ```python\n    <copy>\n    rows = rows + 1")
    assert "tiles.scaled is failed" in told["check"]["text"]
    assert told["check"]["line"] == line_of(text, "## Task 2")
    assert "FutureWarning: `sum` will go" in told["warning"]["text"]
    assert told["warning"]["change"] == "warnings.warn('`sum` will go', FutureWarning)"
    assert told["warning"]["line"] == line_of(text, "    warnings.warn")
    assert "KeyError" in told["cell-stopped"]["text"]
    claims = [one["text"] for one in found["findings"] if one["kind"] == "claim"]
    assert "rows.max() is 0.99609375" in claims[0]
    assert "the cell showed '(40, 16)'" in claims[1]
    assert {one["severity"] for one in found["findings"]} == {"learner"}


@pytest.mark.kernel
def test_a_cell_that_the_text_says_to_run_once_is_no_finding(report: Callable[..., dict]) -> None:
    """
    The claim ``once`` says that the learner is told.
    """
    text = SOUND.replace(SECOND, "tiles = tiles.reshape(40, 16) / 255; rows = tiles")

    assert [*kinds(report(text))] == [("twice", 2)]
    assert report(text.replace("time a moment\n", "once\n"), code=0)["findings"] == []


@pytest.mark.kernel
def test_checks_of_tasks_that_the_page_has_not_are_not_asked(report: Callable[..., dict]) -> None:
    """
    A page that is one of several is judged by the checks of its own tasks.
    """
    text = SOUND[: SOUND.index("## Task 2")]

    assert [one["step"] for one in report(text, code=0)["checks"]] == [1, 1]


@pytest.mark.kernel
def test_the_report_is_readable_everywhere(nbassay: Nbassay, write: Callable[[str], Path]) -> None:
    """
    A finding is a line in the terminal, a row of the comment and an annotation of its line.
    """
    text = SOUND.replace("value rows.max() = 1.0", "value rows.max() = 2.0") + "\n![](no|t.png)\n"
    path = write(text)
    folder = path.parent.parent

    terminal = nbassay("regress", path, "--markdown", folder / "comment.md", cwd=folder)
    github = nbassay("regress", path, "--github", cwd=folder)

    line = line_of(text, "value rows.max()")
    image = line_of(text, "![](no")
    assert terminal.returncode == github.returncode == 1
    assert f"{path}:{line}: claim: claimed: value rows.max() = 2.0" in terminal.stdout
    assert f"{path}:{image}: alt-text" in terminal.stdout
    comment = (folder / "comment.md").read_text("utf-8")
    assert f"| `{path}:{line}` | **claim**: claimed: value rows.max() = 2.0" in comment
    assert "no\\|t.png" in comment
    assert f"::error file=lab/lab.md,line={line},title=claim%3A " in github.stdout
    assert f"::warning file=lab/lab.md,line={image},title=alt-text%3A " in github.stdout


@pytest.mark.kernel
def test_style_alone_is_no_failure_unless_asked(
    nbassay: Nbassay, write: Callable[[str], Path]
) -> None:
    """
    Matters of style end with 0, with ``--strict`` with 1.
    """
    path = write(SOUND.replace("1. Make each", "2. Make each"))

    assert nbassay("regress", path).returncode == 0
    assert nbassay("regress", path, "--strict").returncode == 1


def test_every_kind_of_finding_is_told_of() -> None:
    """
    docs/regress.md has a row for each kind, below the heading of its severity.
    """
    text = (TINY.parents[2] / "docs" / "regress.md").read_text("utf-8")

    rows = {
        severity: re.findall(
            r"^\| `([a-z-]+)` \|", text.partition(head)[2].partition("\n#")[0], re.M
        )
        for severity, head in (("learner", "### What hurts a learner"), ("style", "### Style"))
    }

    assert rows == {
        severity: [kind for kind, what in KINDS.items() if what.severity == severity]
        for severity in rows
    }


@pytest.mark.tensorflow
def test_the_mnist_page_passes(nbassay: Nbassay) -> None:
    """
    The lab's own page holds what it says on the libraries that are installed.
    """
    done = nbassay("regress", "--json", cwd=TINY.parents[2])
    found = json.loads(done.stdout)

    assert (done.returncode, found["findings"]) == (0, [])
    assert {one["outcome"] for one in found["claims"]} == {"holds"}
    assert {one["outcome"] for one in found["checks"]} == {"passed"}
