"""Which notebooks get a fresh process, since they could tell a fork from one."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from nbassay.misconceptions import build_notebook, read_variants
from nbassay.notebook import decode_notebook
from nbassay.telling import what_tells

COULD = {
    "os.environ": ("import os\nos.environ['TF_DETERMINISTIC_OPS'] = '1'", "a variable"),
    "by another name": ("from os import environ as e\ne.update(settings)", "the environment"),
    "magic": ("%env KERAS_BACKEND=jax\nimport keras", "a variable"),
    "magic, any variable": ("%env MY=1", "the environment"),
    "magic in Python": ("get_ipython().run_line_magic('set_env', 'A=1')", "the environment"),
    "putenv": ("import os\nos.putenv('A', '1')", "the environment"),
    "backend": ("import matplotlib\nmatplotlib.use('Agg')", "Matplotlib's backend"),
    "what is imported": ("import sys\nprint('tensorflow' in sys.modules)", "what is imported"),
    "Keras's settings": ("open('/home/learner/.keras/keras.json', 'w')", "a file that libraries"),
    "their folder": ("import shutil\nshutil.move('k', home / '.keras')", "a file that libraries"),
    "Matplotlib's settings": (
        "%%writefile matplotlibrc\nimage.cmap: gray",
        "a file that libraries",
    ),
    "a style": ("!mv mine.mplstyle ~", "a file that libraries"),
    "a file like a library": ("%%writefile six.py\ndef u(x):\n    return x", "a file six.py"),
    "in a string": ("open('numpy.py', 'w').write(source)", "a file numpy.py"),
    "like one of Python's own": ("!wget https://example.org/random.py", "a file org/random.py"),
    "in a folder": (
        "import os\nos.mkdir('numpy')\nopen('numpy/__init__.py', 'w')",
        "a file numpy/",
    ),
    "by a longer way": ("open('/home//learner/six.pyc', 'wb')", "a file learner/six.py"),
    "name made up": ("for name in names:\n    open(name + '.py', 'w')", "a file .py"),
    "module of a package": ("import xml\nxml.etree.ElementTree.XML('<a/>')", "xml.etree"),
    "under another name": ("import xml as x\nprint(x.dom)", "xml.dom"),
    "another language": ("%%bash\nfor x in 1 2; do echo $x; done", "no plain Python"),
    "no Python": ("print 'old'", "no plain Python"),
    "too deep": ("-" * 100_000 + "1", "no plain Python"),
}
COULD_NOT = {
    "nothing": "",
    "usual imports": "import numpy as np, tensorflow\nfrom tensorflow import keras\nnp.random",
    "module that is imported": "import xml\nimport xml.etree.ElementTree\nxml.etree.ElementTree",
    "module that a from imports": "import xml\nfrom xml.etree import ElementTree\nxml.etree",
    "name that is no module": "import json\njson.dumps(1)\nimport os\nos.path.join('a')",
    "lines for IPython": "%matplotlib inline\n!pip install idx2numpy\nfor x in y:\n    !echo $x",
    "files of one's own": "%%writefile network.py\nx = 1\n# later\n%run -i data/prepare_all.py",
    "function that ends so": "tf.py_function(f, [x], tf.float32)\nf'{name}.keras'\n'a.python'",
    "the data of Keras": "open('/root/.keras/datasets/mnist.npz', 'rb')\nmodel.save('best.keras')",
    "settings for this kernel": "import matplotlib\nmatplotlib.rc('font', size=9)\nplt.rcParams",
    "names like variables": "TF = 1\nCUDA = 'cuda'  # a comment on TF 2.16, PYTHON 3",
    "seeds": "import random\nrandom.seed(1)\ntf.keras.utils.set_random_seed(1)",
}


@pytest.mark.parametrize(("source", "what"), COULD.values(), ids=COULD)
def test_code_that_could_tell(source: str, what: str) -> None:
    """
    Code that sets what libraries read, writes what could be imported in place of one, looks at what
    is imported, or leans on others' imports.
    """
    assert what in str(what_tells(["x = 1", source]))


@pytest.mark.parametrize("source", COULD_NOT.values(), ids=COULD_NOT)
def test_code_that_could_not_tell(source: str) -> None:
    """
    Usual code is left to forks.
    """
    assert what_tells(["x = 1", source]) is None


def test_a_package_without_a_file_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A folder of modules is imported without an ``__init__.py``, as TensorFlow's ``google`` is.
    """
    source = "open('spaceless.py', 'w')"
    assert what_tells([source]) is None

    (tmp_path / "spaceless").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    assert "a file spaceless.py" in str(what_tells([source]))


def test_a_folder_beside_the_workshop_is_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What lies in the current folder is in no box, so that a file named like it replaces nothing.
    """
    (tmp_path / "network").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    assert what_tells(["%%writefile network.py\nx = 1"]) is None


def test_a_long_text_is_read_in_time() -> None:
    """
    Data in the code (one long word, or many short ones) do not hold up a class.
    """
    long = ["x" * 1_000_000, "ab/" * 300_000, "." * 1_000_000]

    assert what_tells([f"data = {text!r}" for text in long]) is None


def test_right_work_starts_warm() -> None:
    """
    Of all the right ways of doing the lab, two need a fresh process.
    """
    reference = (ROOT / "reference" / "solution.ipynb").read_bytes()
    ways = read_variants(ROOT / "tests" / "variants")
    told = {
        name: what_tells(source for _index, source in notebook.code_cells)
        for name, way in ways.items()
        for notebook in [decode_notebook(build_notebook(way, reference))]
    }

    assert {name: what for name, what in told.items() if what is not None} == {
        "gpu-and-flags": "a variable that libraries read",
        "shell-set-up-in-bash": "code that is no plain Python",
    }


def test_most_of_a_class_starts_warm() -> None:
    """
    Of the example class, the reference and the lab's own notebook, nobody needs a fresh process.
    """
    paths = [
        *(ROOT / "examples" / "submissions").glob("*.ipynb"),
        ROOT / "reference/solution.ipynb",
    ]
    cells = {
        path.name: [source for _index, source in decode_notebook(path.read_bytes()).code_cells]
        for path in paths
    }

    assert {name: what_tells(sources) for name, sources in cells.items()} == dict.fromkeys(cells)
    assert len(cells) == 9
