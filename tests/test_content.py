"""The teaching content: what is committed is complete, fresh and safe to hand out."""

import gzip
import hashlib
import itertools
import re
from pathlib import Path

import idx2numpy
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt

from nbassay.labpage import Code, read_page, to_notebook

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "lab" / "lab.md"
STARTER = ROOT / "lab" / "lab.ipynb"
SOLUTION = ROOT / "reference" / "solution.ipynb"
DATA = ROOT / "lab" / "data"
SUBMISSIONS = sorted((ROOT / "examples" / "submissions").glob("*.ipynb"))
NOTEBOOKS = [STARTER, SOLUTION, *SUBMISSIONS]

PLACES = re.compile(r"/(?:work|tmp|root|Users|mnt)/|/home/(?!datascience\b)|[A-Z]:\\\\")
"""Folders that exist on the machine of whoever made a notebook, and nowhere else."""
SECRETS = re.compile(r"(?i)api[_-]?key|password|BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_\w{20}")

SHAPES = {
    "train-images-idx3-ubyte": (60000, 28, 28),
    "train-labels-idx1-ubyte": (60000,),
    "t10k-images-idx3-ubyte": (10000, 28, 28),
    "t10k-labels-idx1-ubyte": (10000,),
}


def name(path):
    return str(path.relative_to(ROOT))


def tokens(page):
    """Every token of a page, those inside paragraphs too."""
    for token in MarkdownIt("commonmark").parse(page.read_text("utf-8")):
        yield token
        yield from token.children or ()


def headings(page, tag):
    """The texts of all headings of one level."""
    return [
        text.content
        for heading, text in itertools.pairwise(tokens(page))
        if heading.type == "heading_open" and heading.tag == tag
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_are_valid(path):
    """
    Every notebook is nbformat 4, as its own version of the format demands, for a Python 3 kernel.
    """
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)

    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_tell_nothing_of_the_machine_they_were_made_on(path):
    """
    No notebook holds a folder of its author's machine, a widget's state or anything like a secret.
    """
    text = path.read_text("utf-8")

    assert PLACES.findall(text) == []
    assert SECRETS.findall(text) == []
    assert "application/vnd.jupyter.widget" not in text


@pytest.mark.parametrize("path", [STARTER, SOLUTION], ids=name)
def test_our_own_notebooks_have_no_outputs(path):
    """
    What we wrote is committed without outputs and run counts, and every cell has its own id.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.nbformat_minor == 5
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_the_starter_is_fresh():
    """
    lab.ipynb is what lab.md says today.
    """
    wanted = nbformat.writes(to_notebook(read_page(PAGE.read_text("utf-8"))))

    assert STARTER.read_text("utf-8").rstrip("\n") == wanted.rstrip("\n"), (
        "lab.md has changed; run: nbassay lab to-notebook lab/lab.md -o lab/lab.ipynb"
    )


def test_tasks_are_numbered_in_order():
    """
    The page has the seven tasks of the design, in order, between introduction and thanks.
    """
    found = headings(PAGE, "h2")

    assert found[0] == "Introduction"
    assert [heading.split(":")[0] for heading in found[1:8]] == [f"Task {n}" for n in range(1, 8)]
    assert found[8:] == ["Learn More", "Acknowledgements"]


def test_the_page_has_what_a_livelabs_page_has():
    """
    One title, an estimated time, objectives and prerequisites.
    """
    assert len(headings(PAGE, "h1")) == 1
    assert headings(PAGE, "h3") == ["Objectives", "Prerequisites"]
    assert re.search(r"^Estimated Time: \d+ minutes$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_steps_are_numbered_without_gaps():
    """
    Within a task the numbered steps count 1, 2, 3, whatever stands between them.
    """
    numbers = []
    for token in tokens(PAGE):
        if token.type == "heading_open" and token.tag == "h2":
            numbers.append([])
        elif token.type == "list_item_open" and token.info:
            numbers[-1].append(int(token.info))

    assert [len(steps) > 0 for steps in numbers] == [False, *[True] * 7, False, False]
    assert all(steps == list(range(1, len(steps) + 1)) for steps in numbers)


def test_every_block_to_paste_has_a_language():
    """
    A block with copy tags says whether it goes into a cell or into a terminal.
    """
    blocks = [token for token in tokens(PAGE) if token.type == "fence"]

    assert {b.info for b in blocks if "<copy>" in b.content} == {"python", "bash"}
    assert {b.info for b in blocks if "<copy>" not in b.content} <= {"text"}


def test_pasted_cells_are_python():
    """
    Every cell of the starter compiles by itself, as IPython translates it.
    """
    sources = [p.source for p in read_page(PAGE.read_text("utf-8")).parts if isinstance(p, Code)]

    assert len(sources) >= 10
    for source in sources:
        compile(TransformerManager().transform_cell(source), "lab.md", "exec")


def test_images_exist_and_are_described():
    """
    Each picture of the page is there, small, and has a description and a title; none is left over.
    """
    images = [token for token in tokens(PAGE) if token.type == "image"]
    paths = [PAGE.parent / image.attrs["src"] for image in images]

    assert {path.resolve() for path in paths} == set((PAGE.parent / "images").glob("*.png"))
    assert all(path.stat().st_size < 150_000 for path in paths)
    assert all(len(image.content.split()) >= 5 and image.attrs["title"] for image in images)


@pytest.mark.parametrize("stem", SHAPES)
def test_data_is_what_its_readme_says(stem):
    """
    Both digests of each file, its size and its shape are those of the README.
    """
    readme = (DATA / "README.md").read_text("utf-8")
    packed = (DATA / f"{stem}.gz").read_bytes()
    content = gzip.decompress(packed)

    assert f"| `{stem}.gz` | `{hashlib.sha256(packed).hexdigest()}` |" in readme
    assert f"| `{stem}` | `{hashlib.sha256(content).hexdigest()}` |" in readme
    assert f"| {SHAPES[stem]} | {len(content):,} |" in readme
    assert f"| `{stem}` | {len(content):,} |" in PAGE.read_text("utf-8")
    with gzip.open(DATA / f"{stem}.gz") as stream:
        assert idx2numpy.convert_from_file(stream).shape == SHAPES[stem]


def test_the_examples_readme_names_everybody():
    """
    Each submission has its row and mark in the README, and no row is without a submission.
    """
    readme = (ROOT / "examples" / "README.md").read_text("utf-8")
    marks = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", readme, re.MULTILINE))

    assert sorted(marks) == [path.stem for path in SUBMISSIONS]
    assert len(set(marks.values())) > 4
