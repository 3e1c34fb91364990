"""The lab page as a notebook: what becomes a cell, what stays text, and what is refused."""

import json
import textwrap
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbassay.labpage import (
    Code,
    PageError,
    Prose,
    open_page,
    read_page,
    require_cells,
    to_notebook,
)


def page(text):
    """Read an indented literal."""
    return read_page(textwrap.dedent(text).lstrip("\n"))


def codes(text):
    return [part.source for part in page(text).parts if isinstance(part, Code)]


def texts(text):
    return [part.text for part in page(text).parts if isinstance(part, Prose)]


def fence(body, *, info="python", indent=""):
    """Fence a body."""
    return textwrap.indent(f"```{info}\n{body}\n```\n", indent)


@pytest.mark.parametrize(
    ("body", "cells"),
    [
        pytest.param("<copy>\nx = 1\ny = 2\n</copy>", ["x = 1\ny = 2"], id="tags-on-own-lines"),
        pytest.param("<copy>x = 1\ny = 2</copy>", ["x = 1\ny = 2"], id="tags-on-code-lines"),
        pytest.param("<copy>x = 1</copy>", ["x = 1"], id="one-line"),
        pytest.param("<copy>x = 1\ny = 2\n</copy>", ["x = 1\ny = 2"], id="mixed"),
        pytest.param("<copy>\n    x = 1\n    y = 2\n</copy>", ["x = 1\ny = 2"], id="code-indented"),
        pytest.param("  <copy>\n  if x:\n      y\n  </copy>", ["if x:\n    y"], id="all-indented"),
        pytest.param("<copy>\nx = 1\n\n\ny = 2\n</copy>", ["x = 1\n\n\ny = 2"], id="blank-lines"),
        pytest.param("<copy>a</copy>\n<copy>b</copy>", ["a\nb"], id="two-pairs"),
        pytest.param(">>> <copy>f(1)</copy>\n2", ["f(1)"], id="text-outside-the-tags"),
        pytest.param("<copy>\nx = 1", ["x = 1"], id="end-tag-lost"),
        pytest.param("x = 1\n</copy>\n<copy>y</copy>", ["y"], id="first-tag-lost"),
        pytest.param("<copy>\n<copy>\nx = 1\n</copy>", ["x = 1"], id="tag-twice"),
        pytest.param("\t<copy>\n\tif x:\n\t\ty\n\t</copy>", ["if x:\n    y"], id="tabs"),
        pytest.param(
            "<copy>x = 1\n    y = 2\n    if y:\n        z</copy>",
            ["x = 1\ny = 2\nif y:\n    z"],
            id="first-line-at-the-margin",
        ),
        pytest.param("<copy>if a &lt; b:\n    c</copy>", ["if a < b:\n    c"], id="entities"),
        pytest.param('<copy>s = "&lt;"</copy>', ['s = "&lt;"'], id="entities-in-a-text"),
        pytest.param(
            "<copy>%matplotlib inline\nx = 1</copy>", ["%matplotlib inline\nx = 1"], id="magic"
        ),
        pytest.param("<copy>!pip install x</copy>", ["!pip install x"], id="shell-line"),
        pytest.param("<copy>\n</copy>", [], id="nothing"),
    ],
)
def test_a_cell_is_what_the_button_copies(body, cells):
    """
    A Python block gives one cell of all that stands between its tags, in the shape that runs.
    """
    assert cells == codes(fence(body))


@pytest.mark.parametrize("indent", ["   ", "    "])
def test_a_fence_inside_a_numbered_step_loses_the_indentation_of_the_step(indent):
    """
    A block indented under a numbered step gives the same cell as one at the margin.
    """
    block = fence("<copy>\nfor i in x:\n    print(i)\n</copy>", indent=indent)

    assert codes(f"1. Do this.\n\n{block}") == ["for i in x:\n    print(i)"]


def test_a_step_goes_on_at_the_margin_after_its_code():
    """
    Text of a step that follows its code cell is not indented, or Markdown would show it as code.
    """
    block = fence("<copy>x</copy>", indent="    ")
    after = "    You should see:\n\n    * one\n      thing\n"

    parts = texts(f"1. Do this.\n\n{block}\n{after}\n2. Then that.\n")

    assert parts == ["1. Do this.", "You should see:\n\n* one\n  thing\n\n2. Then that."]


def test_two_blocks_in_one_step_shift_the_text_after_them_once():
    """
    The second code cell of a step does not take indentation away a second time.
    """
    block = fence("<copy>x</copy>", indent="    ")

    parts = texts(f"1. First.\n\n{block}\n    Second.\n\n{block}\n    * a\n        * b\n")

    assert parts[-1] == "* a\n    * b"


def test_steps_keep_their_numbers_across_cells():
    """
    The step after a code cell begins its Markdown cell with the number it has on the page.
    """
    block = fence("<copy>x</copy>", indent="    ")

    assert texts(f"1. First.\n\n{block}\n2. Second.\n")[-1] == "2. Second."


@pytest.mark.parametrize("info", ["bash", "shell", "text", "sql", "", "pycon", "console", "R"])
def test_blocks_that_are_not_python_stay_in_the_text(info):
    """
    A block in any language but Python is shown with its fence and without its tags.
    """
    block = fence("<copy>\nls -l\n</copy>", info=info)
    text = f"Before.\n\n{block}\nAfter.\n"

    assert codes(text) == []
    assert [f"Before.\n\n```{info}\nls -l\n```\n\nAfter."] == texts(text)


def test_a_bash_block_inside_a_step_keeps_its_place():
    """
    Commands shown under a numbered step stay indented under it.
    """
    block = fence("<copy>pip install x</copy>", info="bash", indent="    ")

    assert texts(f"1. Install.\n\n{block}\n    Done.\n") == [
        "1. Install.\n\n    ```bash\n    pip install x\n    ```\n\n    Done."
    ]


@pytest.mark.parametrize(
    "info",
    [
        "python",
        "Python",
        "py",
        "python3",
        "python title=x",
        "ipython3",
        "{python}",
        "{.python .numberLines}",
        "{code-cell} ipython3",
        "python{1,3}",
        " python",
        "notebook",
    ],
)
def test_python_goes_by_several_names(info):
    """
    The first word after the fence decides, in any case.
    """
    assert codes(fence("<copy>x = 1</copy>", info=info)) == ["x = 1"]


def test_tildes_fence_as_well_as_backticks():
    """
    The page is parsed as Markdown, so every fence of Markdown is one.
    """
    assert codes("~~~ python\n<copy>x = 1</copy>\n~~~\n") == ["x = 1"]


def test_a_fence_inside_a_longer_fence_is_only_text():
    """
    Python quoted inside a block of another language gives no cell.
    """
    text = "````markdown\n" + fence("<copy>\nx = 1\n</copy>") + "````\n"

    assert codes(text) == []
    assert texts(text) == ["````markdown\n```python\nx = 1\n```\n````"]


def test_the_word_copy_in_a_sentence_is_left_alone():
    """
    Tags count in fenced blocks only.
    """
    text = "Put it between `<copy>` and `</copy>`."

    assert [text] == texts(text)


def test_a_page_without_code_is_all_text():
    """
    A page without code gives a notebook of Markdown cells, split at headings of level 1 and 2.
    """
    read = page("""
        # Title

        Words.

        ### Objectives

        More.

        ## Task 1: Look

        Look.
        """)

    assert read.title == "Title"
    assert [part.text for part in read.parts] == [
        "# Title\n\nWords.\n\n### Objectives\n\nMore.",
        "## Task 1: Look\n\nLook.",
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "   \n\t\n"])
def test_an_empty_page_is_a_notebook_without_cells(text):
    """
    Blank text gives no cells, and the notebook is valid all the same.
    """
    notebook = to_notebook(read_page(text))

    nbformat.validate(notebook)
    assert notebook.cells == []


def test_lines_are_those_of_the_page():
    """
    Each part knows the line on which it begins.
    """
    parts = page("# T\n\n\nWords.\n\n```python\n<copy>x</copy>\n```\n\nAfter.\n").parts

    assert [part.place.line for part in parts] == [1, 6, 10]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_endings_do_not_matter(newline):
    """
    A page saved on another system reads the same.
    """
    text = "Before.\n\n" + fence("<copy>\nx = 1\ny = 2\n</copy>") + "\nAfter.\n"

    assert read_page(text) == read_page(text.replace("\n", newline))


def test_a_form_feed_does_not_move_the_lines():
    """
    Characters that only Python takes for line ends do not shift code against text.
    """
    text = "One\x0ctwo\u2028three.\n\n" + fence("<copy>x</copy>") + "\nAfter.\n"

    assert texts(text) == ["One\x0ctwo\u2028three.", "After."]


@pytest.mark.parametrize("info", ["python", "bash"])
@pytest.mark.parametrize(
    "body",
    ["<copy>\nx = 1", "x = 1\n</copy>", "<copy>\n<copy>\nx\n</copy>", "<copy>x</copy></copy>"],
)
def test_tags_that_do_not_pair_up_are_told(body, info):
    """
    A block with a lost tag is a flaw of the page, with the line where the block begins.
    """
    flaws = read_page(f"Words.\n\n{fence(body, info=info)}").flaws

    assert [(flaw.kind, flaw.place.line) for flaw in flaws] == [("copy-tags", 3)]


def test_the_notebook_alternates_as_the_page_does():
    """
    Cells come in reading order, and code cells have not been run.
    """
    notebook = to_notebook(page("# T\n\n```python\n<copy>x = 1</copy>\n```\n\nAfter.\n"))

    nbformat.validate(notebook)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        ("markdown", "# T"),
        ("code", "x = 1"),
        ("markdown", "After."),
    ]
    assert (notebook.cells[1].execution_count, notebook.cells[1].outputs) == (None, [])
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_same_page_gives_the_same_bytes():
    """
    Nothing random, such as a fresh cell id, gets into the notebook.
    """
    text = "# T\n\n```python\n<copy>x = 1</copy>\n```\n\nAfter.\n"

    first, second = (nbformat.writes(to_notebook(read_page(text))) for _ in range(2))

    assert first == second
    assert [c.id for c in to_notebook(read_page(text)).cells] == ["text-01", "code-02", "text-03"]


# ------------------------------------------------------------------ which blocks are cells


@pytest.mark.parametrize(
    "body",
    [
        "import numpy as np",
        "x = 1\nprint(x)",
        "for i in range(3):\n    print(i)",
        "print(1)",
        "2 + 2",
        "%matplotlib inline",
        "!ls -l",
        "%%bash\nls -l",
        "%python\nimport oml",
        "with open('a') as f:\n    pass",
        "from math import *\nx = pi",
        "%python-pgx\ngraph = 1",
    ],
)
def test_a_tagged_block_without_language_is_a_cell_if_it_reads_as_python(body):
    """
    A block without language is Python by what it says.
    """
    assert codes(fence(f"<copy>\n{body}\n</copy>", info="")) == [body]


@pytest.mark.parametrize(
    "body",
    [
        "ls -l",
        "ls",
        "exit",
        "pip install tensorflow",
        "cd mnist-lab",
        "jupyter lab",
        "python train.py --epochs 10",
        "export PORT=8080",
        "PORT=8080",
        "docker ps",
        "SELECT * FROM digits;",
        "COMMIT;",
        '{"epochs": 10, "units": [16, 16]}',
        "(60000, 784)",
        "epochs: ten",
        "lab.ipynb",
        "console.log('a')",
        "%sql\nSELECT 1 FROM dual",
        "# only a remark",
        "https://example.org/lab",
        "/home/oracle/setup.sh",
        "/exit",
        "; comment",
        "user=weblogic\npassword=welcome1",
        "secure=true\ngroups=hr,sales",
        "TYPE = TRITON",
        'TOKEN="$(kubectl get secret token | base64 --decode)"',
        "resource.id = 'client'",
        "conn = source.connect();",
        "%r",
        "%r\ncat('a')",
        "%conda\n\nlist",
        "%md\n# Title",
    ],
)
def test_a_tagged_block_without_language_stays_text_if_it_is_something_else(body):
    """
    Commands, queries, data and output are no cells, though some of them parse as Python.
    """
    assert codes(fence(f"<copy>\n{body}\n</copy>", info="")) == []


def test_names_of_earlier_cells_make_an_expression_python():
    """
    ``model.summary()`` alone is a cell of a page that defined a model before.
    """
    first = fence("<copy>\nmodel = make()\n</copy>", info="")

    assert codes(first + "\n" + fence("<copy>model.summary()</copy>", info="")) == [
        "model = make()",
        "model.summary()",
    ]


def test_python_without_tags_is_only_shown_beside_python_with_tags():
    """
    On a page that marks what to copy, an unmarked block of Python is not pasted.
    """
    assert codes(fence("<copy>x = 1</copy>") + "\n" + fence("y = 2")) == ["x = 1"]


def test_a_page_that_marks_no_python_means_all_of_it():
    """
    Where no block of Python has tags, each is a cell, and tagged commands of a shell are none.
    """
    text = fence("<copy>ls</copy>", info="bash") + "\n" + fence("x = 1") + "\n" + fence("y = 2")

    assert codes(text) == ["x = 1", "y = 2"]


def test_a_page_without_tags_and_languages_means_what_reads_as_python():
    """
    On the oldest kind of page, statements are cells, commands and output are not.
    """
    text = "\n".join(fence(body, info="") for body in ("import a", "ls -l", "(2, 3)", "b = a.f()"))

    assert codes(text) == ["import a", "b = a.f()"]


@pytest.mark.parametrize(
    "body",
    [
        "import numpy as np\nx = Image.open(<path to image>)",
        "def double(x)\n    return 2 * x",
        "print 'text'\nfor x in range(3):\n    print x",
        "model.fit(x, y",
        "y = model.predict(x))",
    ],
)
@pytest.mark.parametrize("tags", [True, False])
def test_broken_python_without_language_is_a_cell_of_a_page_of_python(body, tags):
    """
    What can only be Python is pasted though it does not parse: it must be told, not hidden.
    """
    bodies = ["import lab\nmodel = lab.make()", body]
    blocks = [f"<copy>\n{one}\n</copy>" if tags else one for one in bodies]

    assert bodies == codes("\n".join(fence(one, info="") for one in blocks))


@pytest.mark.parametrize(
    "body", ["kubectl get pods", "SELECT model FROM models;", "loss: 0.2 acc: 0.9", "for all users"]
)
def test_what_is_broken_as_python_because_it_is_none_stays_text(body):
    """
    Commands and output of a page of Python are not taken for broken cells.
    """
    first = fence("<copy>\nmodel = 1\n</copy>")

    assert codes(first + "\n" + fence(f"<copy>\n{body}\n</copy>", info="")) == ["model = 1"]


def test_an_import_makes_a_page_one_of_python():
    """
    Beside an import, a call of what the kernel brings itself (``z`` of OML) is Python.
    """
    body = "import oml\nx = oml.sync()\nz.show(x)"

    assert codes(fence(f"<copy>\n{body}\n</copy>", info="")) == [body]


@pytest.mark.parametrize("info", ["text", "plaintext", "nohighlight"])
def test_a_language_that_says_nothing_is_none(info):
    """
    Tagged Python in a block of ``text`` is pasted as it is from one without language.
    """
    assert codes(fence("<copy>\nimport a\n</copy>", info=info)) == ["import a"]


@pytest.mark.parametrize(
    ("body", "cells"), [("! cat tnsnames.ora", []), ("!pip install x", ["!pip install x"])]
)
def test_a_shell_line_on_a_page_of_sql_is_for_sqlplus(body, cells):
    """
    ``!`` begins a line of SQL*Plus, too; ``!pip`` is for a notebook wherever it stands.
    """
    query = fence("<copy>\nSELECT 1 FROM dual;\n</copy>", info="")

    assert codes(query + "\n" + fence(f"<copy>\n{body}\n</copy>", info="")) == cells


@pytest.mark.parametrize("info", ["bash", "sh", "sql", "text"])
@pytest.mark.parametrize("body", ["!pip install x\n# or\n!conda install x", "%%bash\nls"])
def test_a_tagged_block_of_another_language_is_a_cell_if_only_a_notebook_takes_it(body, info):
    """
    Lines that all begin with ``!`` or ``%``, and cell magics, are for a notebook.
    """
    assert codes(fence(f"<copy>\n{body}\n</copy>", info=info)) == [body]


PAGES = sorted((Path(__file__).parent / "labpages").glob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_of_every_kind_give_the_cells_that_their_authors_meant(path):
    """
    Each page of ``tests/labpages/`` gives the cells of the file of the same name, in order.
    """
    wanted = path.with_suffix(".py").read_text("utf-8").split("# %%\n")[1:]

    assert [cell.source for cell in open_page(path).cells] == [one.rstrip("\n") for one in wanted]


SCRAPS = [
    *("```python\n", "```\n", "````\n", "~~~\n", "    ```\n", "<copy>", "</copy>", "\n<copy>\n"),
    *("x = 1\n", "if x:\n    y\n", "1. a\n", "2) b\n", "- c\n", "    ", "\t", "> q\n", "\n\n"),
    *("<!-- ", "-->", "<!-- nbassay: known -->", '<if type="a">', "</if>", "[](include:x)"),
    *("[](var:y)", "![](a.png)", "<img src='q'>", "## Task 1: x\n", "| a |\n| - |\n", "---\n"),
    *("`x_trian`", "96 %", "\r\n", "\x0c", "\u2028", "&lt;", "!ls\n", "%%bash\n", "%x\n", "a?\n"),
]


@given(st.lists(st.sampled_from(SCRAPS), max_size=40).map("".join))
def test_whatever_stands_on_a_page_it_is_read(text):
    """
    No text makes the reader fail, and the notebook of it is valid and holds the page's cells.
    """
    page = read_page(text)
    notebook = to_notebook(page)

    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert code == [cell.source for cell in page.cells]


# ------------------------------------------------------------------ fences


@pytest.mark.parametrize(
    "indent", ["", "  ", "   ", "    ", "       ", "            ", "\t", "\t\t"]
)
@pytest.mark.parametrize("step", ["1. Do this.", "10. Do this.", "- Do this.", "Do this."])
def test_a_fence_may_stand_at_any_indentation(step, indent):
    """
    However deep a block is indented, and whatever it is indented under, its cell is the same.
    """
    block = fence("<copy>\nfor i in x:\n    print(i)\n</copy>", indent=indent)

    assert codes(f"{step}\n\n{block}\nAfter.\n") == ["for i in x:\n    print(i)"]
    assert codes(f"{step}\n{block}After.\n") == ["for i in x:\n    print(i)"]


def test_code_may_stand_left_of_its_fence():
    """
    Code pasted at the margin below a step belongs to the block all the same.
    """
    text = (
        "1. Do.\n\n    ```python\n    <copy>\nx = 1\nif x:\n    y = 2\n    </copy>\n    ```\n\n"
        "2. Go on.\n"
    )

    assert codes(text) == ["x = 1\nif x:\n    y = 2"]
    assert read_page(text).flaws == ()
    assert texts(text)[-1].endswith("2. Go on.")


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("```", "```"), ("````", "````"), ("````", "```"), ("```", "````"), ("~~~", "~~~")],
)
def test_fences_of_three_and_four(opening, closing):
    """
    Three or four backticks open and close a block, also three what four opened.
    """
    text = f"{opening}python\n<copy>x = 1</copy>\n{closing}\n\nAfter.\n"

    assert codes(text) == ["x = 1"]
    assert texts(text) == ["After."]
    assert read_page(text).flaws == ()


@pytest.mark.parametrize(
    "block",
    ["```python\n<copy>x = 1\n</copy>```\n", "```python <copy>\nx = 1\n</copy>\n```\n"],
    ids=["before-the-end", "on-the-first-line"],
)
def test_tags_may_share_a_line_with_the_fence(block):
    """
    ``</copy>`` may stand before the closing backticks, ``<copy>`` behind the opening ones.
    """
    assert codes(f"Before.\n\n{block}\nAfter.\n") == ["x = 1"]
    assert texts(f"Before.\n\n{block}\nAfter.\n") == ["Before.", "After."]


@pytest.mark.parametrize("info", ["python", ""])
@pytest.mark.parametrize("indent", ["", "    "])
def test_a_block_that_is_never_closed_costs_the_next_ones_nothing(indent, info):
    """
    A lost closing fence is told with its line, and every cell is there.
    """
    lost = textwrap.indent(f"```{info}\n<copy>\nx = 1\n</copy>\n", indent)
    block = fence("<copy>\ny = 2\n</copy>", info=info, indent=indent)
    text = f"1. First.\n\n{lost}\n2. Second.\n\n{block}\n3. Third.\n\n{block}\n"
    read = read_page(text)

    assert [cell.source for cell in read.cells] == ["x = 1", "y = 2", "y = 2"]
    assert [(flaw.kind, flaw.place.line) for flaw in read.flaws] == [("unclosed-fence", 3)]


def test_deep_indentation_is_text():
    """
    Four spaces before a line make no block of code, as authors indent below steps.
    """
    assert texts("1. Do.\n\n        Deep.\n") == ["1. Do.\n\n        Deep."]


def test_code_in_a_comment_is_not_there():
    """
    A block inside ``<!-- … -->`` is invisible on the page, and no cell.
    """
    assert codes("<!--\n" + fence("<copy>x = 1</copy>") + "-->\n\n" + fence("<copy>y</copy>")) == [
        "y"
    ]


def test_html_beside_a_fence_hides_nothing():
    """
    A tag on the line before a block, as ``<details>``, leaves it a block.
    """
    assert codes("<details>\n" + fence("<copy>x = 1</copy>") + "</details>\n") == ["x = 1"]


def test_front_matter_is_no_text():
    """
    Settings at the top of a page, between lines of three dashes, come into no cell.
    """
    assert texts("---\ntitle: A lab\n---\n\n# A lab\n") == ["# A lab"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    """
    A page that an editor saved with a byte order mark has its heading all the same.
    """
    path = tmp_path / "lab.md"
    path.write_text("# Title\n", encoding="utf-8-sig")

    assert open_page(path).title == "Title"


# ------------------------------------------------------------------ variants, includes, variables

VARIANTS = """
# Title

<if type="freetier">
1. Sign up.

    ```python
    <copy>
    free = 1
    </copy>
    ```
</if>
<if type="livelabs sandbox">
1. Sign in. <if type="sandbox">Quickly.</if>

    ```python
    <copy>
    paid = 1
    </copy>
    ```
</if>

2. Go on with <if type="freetier">your own</if><if type="livelabs">our</if> account.
"""


@pytest.mark.parametrize(
    ("variant", "cells", "last"),
    [
        (None, ["free = 1"], "2. Go on with your own account."),
        ("freetier", ["free = 1"], "2. Go on with your own account."),
        ("livelabs", ["paid = 1"], "2. Go on with our account."),
        ("sandbox", ["paid = 1"], "2. Go on with  account."),
    ],
)
def test_only_one_variant_is_read(variant, cells, last):
    """
    Of each ``<if type="…">`` what is for the chosen variant stays, by default the first named.
    """
    read = read_page(VARIANTS, variant=variant)

    assert [cell.source for cell in read.cells] == cells
    assert read.source.variants == ("freetier", "livelabs", "sandbox")
    assert read.parts[-1].text.endswith(last)
    assert read.flaws == ()


def test_lines_are_those_of_the_file_whatever_the_variant():
    """
    A cell behind text for another variant knows its line in the file.
    """
    (cell,) = read_page(VARIANTS, variant="livelabs").cells

    assert VARIANTS.split("\n")[cell.place.line - 1].strip() == "```python"
    assert cell.place.line == 16


def test_code_inside_a_block_may_be_for_one_variant():
    """
    ``<if type="…">`` counts inside a block, too, and leaves no blank line there.
    """
    body = '<copy>\na = 1\n<if type="x">\nb = 2\n</if>\n<if type="y">\nc = 3\n</if>\nd = 4\n</copy>'

    assert [c.source for c in read_page(fence(body), variant="y").cells] == ["a = 1\nc = 3\nd = 4"]


@pytest.mark.parametrize("text", ['a\n\n<if type="x">\nb\n', "a\n\n</if>\nb\n"])
def test_variants_that_do_not_close_are_told(text):
    """
    A lost ``<if …>`` or ``</if>`` is a flaw with its line.
    """
    assert [(flaw.kind, flaw.place.line) for flaw in read_page(text).flaws] == [("if-tags", 3)]


@pytest.fixture
def workshop(tmp_path):
    """A LiveLabs workshop with a manifest, an include and variables."""
    (tmp_path / ".git").mkdir()
    for folder in ("lab", "shared", "workshops/tenancy"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "shared" / "setup.md").write_text(
        "## Task 1: Set up\n\n```python\n<copy>\nimport numpy as np\n</copy>\n```\n"
    )
    (tmp_path / "shared" / "variables.json").write_text(json.dumps({"epochs": "10"}))
    (tmp_path / "workshops" / "tenancy" / "manifest.json").write_text(
        json.dumps(
            {
                "tutorials": [{"title": "Lab", "filename": "../../lab/lab.md", "type": "tenancy"}],
                "include": {"setup": "../../shared/setup.md"},
                "variables": ["../../shared/variables.json"],
            }
        )
    )
    page = tmp_path / "lab" / "lab.md"
    page.write_text(
        "# Lab\n\n[](include:setup)\n\n## Task 2: Train for [](var:epochs) epochs\n\n"
        "```python\n<copy>\nepochs = [](var:epochs)\n</copy>\n```\n\n"
        '<if type="free">Pay nothing.</if><if type="tenancy">Use yours.</if>\n'
    )
    return page


def test_includes_and_variables_come_from_the_manifest(workshop):
    """
    The manifest that lists a page names its includes, its variables and its variant.
    """
    read = open_page(workshop)

    assert [cell.source for cell in read.cells] == ["import numpy as np", "epochs = 10"]
    assert [heading.text for heading in read.headings][1:] == [
        "Task 1: Set up",
        "Task 2: Train for 10 epochs",
    ]
    assert read.parts[-1].text == "Use yours."
    assert [(cell.place.file.rpartition("/")[2], cell.place.line) for cell in read.cells] == [
        ("setup.md", 3),
        ("lab.md", 7),
    ]


def test_what_no_manifest_knows_is_told(tmp_path):
    """
    An include and a variable without a manifest are flaws with their lines.
    """
    path = tmp_path / "lab.md"
    path.write_text("a\n\n[](include:setup)\n\n[](var:epochs)\n")

    assert [(flaw.kind, flaw.place.line) for flaw in open_page(path).flaws] == [
        ("include-missing", 3),
        ("variable-missing", 5),
    ]


def test_a_file_of_variables_that_is_not_there_does_not_keep_a_page_from_being_read(tmp_path):
    """
    Manifests are copied with names of files that nobody has; what is used of them is told.
    """
    manifest = {"tutorials": [{"filename": "lab.md"}], "variables": ["variables/variables.json"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    path = tmp_path / "lab.md"
    path.write_text("a [](var:epochs)\n")

    assert [flaw.kind for flaw in open_page(path).flaws] == ["variable-missing"]


# ------------------------------------------------------------------ headings and steps


@pytest.mark.parametrize(
    ("heading", "task"),
    [
        ("## Task 3: Train", ("task", 3, "")),
        ("## **STEP 3:** Train", ("step", 3, "")),
        ("## **Step 3**: Train", ("step", 3, "")),
        ("## STEP 3: Train", ("step", 3, "")),
        ("### Step 3 - Train", ("step", 3, "")),
        ("## Task 3b (optional)", ("task", 3, "b")),
        ("## Part 3. Train", ("part", 3, "")),
        ("## Introduction", None),
        ("## Steps of training", None),
    ],
)
def test_headings_of_all_skeletons_have_a_number(heading, task):
    """
    Tasks are numbered as ``Task n``, ``STEP n`` and in older ways, bold or not.
    """
    (read,) = read_page(heading + "\n").headings

    assert read.task == task


def test_steps_are_the_items_of_numbered_lists():
    """
    Each step knows its number as it is written, its depth and its line.
    """
    steps = page("""
        1. One.

            1. Inner.

        3. Three.

            * Not numbered.
        """).steps

    assert [(step.number, step.depth, step.place.line) for step in steps] == [
        (1, 1, 1),
        (1, 2, 3),
        (3, 1, 5),
    ]


# ------------------------------------------------------------------ the command


def test_the_command_tells_what_is_wrong_and_goes_on(nbassay, tmp_path):
    """
    ``lab to-notebook`` writes the cells and tells a lost tag with its file and line.
    """
    path = tmp_path / "lab.md"
    path.write_text("# T\n\n```python\n<copy>\nx = 1\n```\n")

    done = nbassay("lab", "to-notebook", path, "-o", tmp_path / "lab.ipynb")

    assert done.returncode == 0
    assert f"{path}: line 3: the block that begins here has <copy> without </copy>" in done.stderr
    assert nbformat.read(tmp_path / "lab.ipynb", 4).cells[1].source == "x = 1"


BAD = {
    "not-utf-8": (b"# T\n\nna\xefve\n", "line 3: expected UTF-8 text, found byte 0xef"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "expected UTF-8 text, found a NUL byte"),
    "utf-16": ("# T\n".encode("utf-16"), "line 1: expected UTF-8 text"),
    "no-code": (b"# T\n\nWords.\n", "line 1: expected a block that a learner pastes"),
    "empty": (b"", "line 1: expected a block that a learner pastes"),
    "include-loop": (b"# T\n\n[](include:lab.md)\n", "line 3: expected includes that end"),
    "include-outside": (
        b"# T\n\n[](include:../../../etc/hostname)\n",
        "line 3: expected a link that stays inside",
    ),
    "too-long": (b"x" * (9 << 20), "expected a page of at most 8 MB"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_page_that_cannot_be_read_is_an_error(tmp_path, content, words):
    """
    The message has the page's file, and the line where there is one.
    """
    path = tmp_path / "lab.md"
    path.write_bytes(content)

    with pytest.raises(PageError) as error:
        require_cells(open_page(path))

    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)


def test_the_command_writes_nothing_of_a_page_that_it_cannot_read(nbassay, tmp_path):
    """
    ``lab to-notebook`` ends with 2, tells why and leaves no notebook.
    """
    path = tmp_path / "lab.md"
    path.write_bytes(BAD["not-utf-8"][0])

    done = nbassay("lab", "to-notebook", path, "-o", tmp_path / "lab.ipynb")

    assert done.returncode == 2
    assert f"nbassay: {path}: line 3: expected UTF-8 text" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["lab.md"]


def test_a_page_of_many_thousand_lines_is_read():
    """
    Length alone is no reason to refuse: every one of a thousand cells is there.
    """
    text = "# T\n\n" + "".join(
        f"{n}. Step.\n\n{fence(f'<copy>x{n} = {n}</copy>', indent='    ')}\n    Words.\n\n"
        for n in range(1, 1001)
    )

    assert len(read_page(text).cells) == 1000


def test_another_variant_than_the_page_has_is_an_error():
    """
    A word that the page does not know is refused with those that it knows.
    """
    with pytest.raises(PageError, match=r"has \(freetier, livelabs, sandbox\), found 'paid'"):
        read_page(VARIANTS, variant="paid")


def test_a_variant_of_a_page_that_has_none_is_an_error(nbassay, workshop, tmp_path):
    """
    ``--type`` is refused where nothing is for one variant only, unless the manifest names it.
    """
    bare = tmp_path / "bare.md"
    bare.write_text(f"# T\n\n{fence('<copy>x = 1</copy>')}\n")
    workshop.write_text(bare.read_text())
    target = tmp_path / "lab.ipynb"

    refused = nbassay("lab", "to-notebook", bare, "--type", "tenancy", "-o", target)
    has_written = target.exists()
    known = nbassay("lab", "to-notebook", workshop, "--type", "tenancy", "-o", target)

    assert refused.returncode == 2
    assert "a variant that the page has (it has none), found 'tenancy'" in refused.stderr
    assert not has_written
    assert known.returncode == 0, known.stderr
