"""The lab page as a notebook: what becomes a cell, what stays text, and what is refused."""

import textwrap

import nbformat
import pytest

from nbassay.labpage import Code, PageError, Prose, read_page, to_notebook


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
        pytest.param("<copy>a</copy>\n<copy>b</copy>", ["a", "b"], id="two-pairs"),
        pytest.param(">>> <copy>f(1)</copy>\n2", ["f(1)"], id="text-outside-the-tags"),
        pytest.param("x = 1", [], id="no-tags"),
    ],
)
def test_a_cell_is_what_stands_between_the_copy_tags(body, cells):
    """
    A Python block gives one cell for each pair of tags, without tags and without indentation.
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


@pytest.mark.parametrize("info", ["bash", "shell", "text", "sql", "", "pycon"])
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


@pytest.mark.parametrize("info", ["python", "Python", "py", "python3", "python title=x"])
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

    assert [part.line for part in parts] == [1, 6, 10]


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
def test_tags_that_do_not_pair_up_are_refused(body, info):
    """
    A block with a lost tag is an error that names its line.
    """
    with pytest.raises(PageError, match="line 3: expected") as error:
        read_page(f"Words.\n\n{fence(body, info=info)}")

    assert error.value.line == 3


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
