"""Boxes that start as forks leave the same evidence as fresh ones, with real libraries."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import RIGHT_CELLS, ROOT, TINY, write_notebook

from nbassay import cli_class
from nbassay.errors import SandboxError
from nbassay.files import MARK
from nbassay.notebook import decode_notebook
from nbassay.records import EnvironmentFact
from nbassay.running import Run, Shortcuts, begin_warm, run_notebook, why_not_warm
from nbassay.sandbox import Sandbox, bubblewrap
from nbassay.sandbox.choose import choose
from nbassay.sandbox.unboxed import Unboxed
from nbassay.sandbox.warm import Zygote
from nbassay.workbench import Workbench, workbench
from nbassay.workshop import read_workshop

pytestmark = pytest.mark.kernel

with_tensorflow = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
    ),
]
LOGGED = re.compile(r"^(WARNING: All log messages|[IWEF]0000 ).*\n", re.MULTILINE)
"""What TensorFlow's C++ tells with the time and the number of a thread: of no run the same."""

DRAW = "import random\nimport numpy as np\nprint(random.random(), np.random.rand())"
SMALL = """
x = np.random.rand(500, 28, 28).astype('float32')
y = np.random.randint(0, 10, 500)
model = keras.Sequential([
    keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(16, activation='relu'),
    keras.layers.Dropout(0.2), keras.layers.Dense(10, activation='softmax')])
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
print(model.fit(x, y, epochs=2, verbose=0, validation_split=0.1).history)
print(model.evaluate(x, y, verbose=0), model.predict(x[:3], verbose=0).argmax(axis=1))
"""
CASES = {
    "random numbers around the import": (
        DRAW,
        "import tensorflow as tf\nimport keras",
        DRAW,
        SMALL,
    ),
    "Keras alone, a part of it first": (
        "from keras.models import Sequential\nimport keras, numpy as np",
        SMALL,
        DRAW,
    ),
    "tf.keras, in one cell": (
        "import numpy as np, tensorflow as tf\nfrom tensorflow import keras\n" + SMALL + DRAW,
    ),
    "seeds of the notebook's own": (
        "import keras, numpy as np\nkeras.utils.set_random_seed(7)",
        SMALL,
        DRAW,
        "import tensorflow as tf\nprint(tf.random.uniform((3,)).numpy())",
    ),
    "other libraries first": (
        "import matplotlib.pyplot as plt\nimport numpy as np\nplt.imshow(np.eye(9))\nplt.show()",
        "import pandas as pd\nprint(pd.DataFrame({'a': [1, 2]}).describe())",
        "from sklearn.metrics import confusion_matrix\nprint(confusion_matrix([0, 1], [1, 1]))",
        "import keras",
        SMALL,
        "plt.plot(model.history.history['loss'])\nplt.show()\nprint(plt.get_backend())",
    ),
    "warnings and errors": (
        "import warnings\nwarnings.filterwarnings('error', 'mine')\nwarnings.warn('ours')",
        "import keras, numpy as np",
        "warnings.warn('still ours')\nwarnings.warn('mine')",
        "np.matrix([1]) / 0\n1 / 0",
        "print([f[:2] for f in warnings.filters])",
        "import os\nprint(sorted(os.listdir(os.path.expanduser('~'))), os.getpid(), os.getcwd())",
        "print(os.popen('env | grep BEHAVIOR; env | wc -l').read())",
    ),
    "data set, own loop, own layer": (
        "import tensorflow as tf, numpy as np, keras",
        "class Twice(keras.layers.Layer):\n    def call(self, x):\n        return 2 * x",
        "model = keras.Sequential([keras.Input((4,)), Twice(), keras.layers.Dense(2)])\n"
        "model.compile('sgd', 'mse')\n"
        "data = tf.data.Dataset.from_tensor_slices((np.ones((64, 4)), np.ones((64, 2))))\n"
        "print(model.fit(data.shuffle(64).batch(8), verbose=0).history)\n"
        "with tf.GradientTape() as tape:\n    loss = tf.reduce_mean(model(np.ones((2, 4))) ** 2)\n"
        "model.optimizer.apply(tape.gradient(loss, model.trainable_variables))",
    ),
    "without any of them": (
        "import idx2numpy\nimport sys, json\nprint(len(sys.argv), __name__)",
        DRAW,
    ),
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    """The MNIST workshop, ready to run, with one process that boxes are forked from."""
    with workbench(read_workshop(ROOT), choose()) as bench:
        yield bench


def ran(bench: Workbench, folder: Path, *cells: str, is_warm: bool) -> Run:
    """One run of a notebook with these cells, in a box that starts as it should."""
    path = write_notebook(folder / "one.ipynb", *cells)
    notebook, shortcuts = decode_notebook(path.read_bytes()), Shortcuts(is_warm=is_warm)
    run = run_notebook(notebook, bench, shortcuts=shortcuts)
    assert run.evidence.ending.reason == "finished"
    assert run.evidence.ending.is_warm == is_warm
    return run


def facts(run: Run) -> list[Any]:
    """All but what it took."""
    took = {"seconds", "cpu_seconds", "peak_memory_bytes"}
    return [
        {name: value for name, value in msgspec.to_builtins(fact).items() if name not in took}
        for fact in run.evidence.facts
    ]


def shown(run: Run) -> list[Any]:
    """Outputs by cell; text of a stream in one, without what the C++ logs."""
    found = []
    for index, outputs in sorted(run.outputs.items()):
        texts: dict[str, str] = {}
        others = []
        for output in outputs:
            if output["output_type"] == "stream":
                texts[output["name"]] = texts.get(output["name"], "") + output["text"]
            else:
                others.append(output)
        kept = {name: LOGGED.sub("", text) for name, text in texts.items()}
        found.append((index, {name: text for name, text in kept.items() if text}, others))
    return found


def test_no_debugger_is_started_and_a_notebook_may_import_one(
    bench: Workbench, tmp_path: Path
) -> None:
    """
    The kernel starts without the debugger of a front end, which is as importable as before.
    """
    cells = [
        "import sys\nprint('debugpy' in sys.modules)",
        "import debugpy\nprint(debugpy.__name__)",
    ]

    run = ran(bench, tmp_path, *cells, is_warm=False)

    assert [texts["stdout"] for _, texts, _ in shown(run)] == ["False\n", "debugpy\n"]


@pytest.mark.parametrize(
    "cells", [pytest.param(cells, id=name, marks=with_tensorflow) for name, cells in CASES.items()]
)
def test_forks_leave_the_evidence_of_fresh_processes(
    bench: Workbench, tmp_path: Path, cells: tuple[str, ...]
) -> None:
    """
    Facts, numbers and outputs of a notebook are the same, however its box started.
    """
    fresh = ran(bench, tmp_path, *cells, is_warm=False)
    warm = ran(bench, tmp_path, *cells, is_warm=True)

    assert facts(fresh) == facts(warm)
    assert shown(fresh) == shown(warm)
    assert {ref: array.tobytes() for ref, array in fresh.blobs.items()} == {
        ref: array.tobytes() for ref, array in warm.blobs.items()
    }
    assert fresh.evidence.key == warm.evidence.key
    assert [fact for fact in fresh.evidence.facts if isinstance(fact, EnvironmentFact)]


@pytest.mark.attacks
@pytest.mark.tensorflow
def test_forks_do_not_hang(bench: Workbench, tmp_path: Path) -> None:
    """
    Forty forks of one process, one after the other, train the same network to the same bits.
    """
    digests = set()
    for _ in range(40):
        run = ran(bench, tmp_path, "import keras, numpy as np", SMALL, is_warm=True)
        hasher = hashlib.sha256()
        for _ref, array in sorted(run.blobs.items()):
            hasher.update(array.tobytes())
        digests.add(hasher.hexdigest())

    assert len(digests) == 1


def test_what_boxes_start_from_is_begun_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A notebook starts from what was begun while the walls were tried; no other one is made for it.
    """
    made, is_made = [], threading.Event()

    def noted(*arguments: Any) -> Zygote:
        zygote = Zygote(*arguments)
        made.append(zygote)
        is_made.set()
        return zygote

    monkeypatch.setattr(bubblewrap, "Zygote", noted)
    workshop, sandbox = read_workshop(TINY), choose()

    begin_warm(workshop, sandbox)
    assert is_made.wait(120)
    with workbench(workshop, sandbox) as bench:
        run = ran(bench, tmp_path, "print(1)", is_warm=True)
        assert [zygote.is_there for zygote in made] == [True]

    assert run.evidence.ending.is_warm
    assert not made[0].is_there


ASKED = {
    "a new class": (2, "new", (), True),
    "a class that was graded before": (2, "graded", (), False),
    "a name that no folder can have": (2, "x" * 300, (), True),
    "one notebook": (0, "new", (), False),
    "told not to": (2, "new", ("--no-warm",), False),
}
"""How many notebooks more than one, where to, options, whether it begins."""


@pytest.mark.parametrize(("more", "out", "options", "begins"), ASKED.values(), ids=ASKED)
def test_only_a_class_that_will_be_run_begins_ahead(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: int,
    out: str,
    options: tuple[str, ...],
    begins: bool,
) -> None:
    """
    Imports begin before the walls are tried, where there is a class to run that may use them.
    """
    for number in range(1 + more):
        write_notebook(tmp_path / "class" / f"{number}.ipynb", f"print({number})")
    (tmp_path / "graded").mkdir()
    (tmp_path / "graded" / MARK).write_text('{"schema": "nbassay/run/1"}')
    told = []
    monkeypatch.setattr(cli_class, "begin_warm", lambda *_arguments: told.append("begun"))

    def do_not_hold(_sandbox: Sandbox) -> None:
        raise SandboxError("walls tried")

    monkeypatch.setattr(cli_class, "proven_walls", do_not_hold)
    monkeypatch.setattr(cli_class, "control_submissions", lambda _workshop: [])

    with pytest.raises(SandboxError, match="walls tried"):
        cli_class.grade.main(
            [
                *(str(tmp_path / "class"), "-o", str(tmp_path / out)),
                *("--workshop", str(TINY), *options),
            ],
            standalone_mode=False,
        )

    assert told == ["begun"] * begins


def test_whether_boxes_start_warm_is_found_by_trying() -> None:
    """
    What `nbassay doctor` asks: nothing hinders forks here, and without a sandbox there are none.
    """
    workshop = read_workshop(TINY)

    assert why_not_warm(workshop, choose()) is None
    assert "fresh process" in str(why_not_warm(workshop, Unboxed()))


def test_the_command_starts_warm_and_can_be_told_not_to(nbassay, tmp_path: Path) -> None:
    """
    A class has the same results however its boxes start; only run.json tells how they did.
    """
    folder = tmp_path / "class"
    write_notebook(folder / "right.ipynb", *RIGHT_CELLS)
    write_notebook(folder / "other.ipynb", *RIGHT_CELLS, "# other")
    write_notebook(folder / "tells.ipynb", *RIGHT_CELLS, "import os\nprint(len(os.environ))")

    done = [
        nbassay("grade", folder, "-o", tmp_path / name, *options)
        for name, options in (("warm", ()), ("fresh", ("--no-warm",)))
    ]
    told = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("warm", "fresh")]

    assert [one.returncode for one in done] == [0, 0]
    assert (tmp_path / "warm" / "results.json").read_bytes() == (
        tmp_path / "fresh" / "results.json"
    ).read_bytes()
    assert [one["is_warm"] for one in told] == [True, False]
    assert told[0]["why_not_warm"] is None
    are_warm = [{name: box["are_warm"] for name, box in one["used"].items()} for one in told]
    assert are_warm == [
        {"right": True, "other": True, "tells": False},
        dict.fromkeys(("right", "other", "tells"), False),
    ]
