"""Which notebooks get a fresh process, since they could tell a fork from one."""

from __future__ import annotations

import pytest
from conftest import ROOT

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
    "names like variables": "TF = 1\nCUDA = 'cuda'  # a comment on TF 2.16, PYTHON 3",
    "seeds": "import random\nrandom.seed(1)\ntf.keras.utils.set_random_seed(1)",
}


@pytest.mark.parametrize(("source", "what"), COULD.values(), ids=COULD)
def test_code_that_could_tell(source: str, what: str) -> None:
    """
    Code that sets what libraries read, looks at what is imported, or leans on others' imports.
    """
    assert what in str(what_tells(["x = 1", source]))


@pytest.mark.parametrize("source", COULD_NOT.values(), ids=COULD_NOT)
def test_code_that_could_not_tell(source: str) -> None:
    """
    Usual code is left to forks.
    """
    assert what_tells(["x = 1", source]) is None


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
