"""The box and a live kernel give the same outcomes for the same work, with TensorFlow and MNIST."""

import json
import os

import nbformat
import pytest
from conftest import ROOT
from live_kernel import live_kernel
from reporting_samples import reference

from nbassay.kit import write_kit
from nbassay.misconceptions import build_notebook, read_misconceptions, read_variants
from nbassay.workshop import read_workshop

pytestmark = pytest.mark.tensorflow

WORKSHOP = read_workshop(ROOT)
WAYS = {
    **read_variants(ROOT / "tests" / "variants"),
    **read_misconceptions(ROOT / "reference" / "misconceptions"),
}
FEW = ("lab-idioms", "only-train-scaled", "second-layer-15")
"""Right work, and a mistake of preparing and one of building."""
ONLY_BOXED = {
    "colab": "google.colab is not there",
    "content-folder": "/content is not there",
    "home-datascience": "/home/datascience is not there",
    "downloaded-in-python": "fetches the data from the network",
    "shell-set-up-in-bash": "fetches the data from the network",
    "data-in-a-subfolder": "the data lie beside the notebook",
    "keras-datasets": "fetches the data from the network",
    "input": "nobody sits at the keyboard",
    "convolutions": "its network is measured in a second box",
}
"""Ways that need what the box lays ready, or asks."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kits") / "mnist"
    write_kit(WORKSHOP, folder, reference())
    return folder


def chosen(ways):
    """All of *ways*, or as many as EVERY_SAMPLE says, spread over them; the few always."""
    wanted = int(os.environ.get("EVERY_SAMPLE", len(ways)))
    spread = {ways[number * len(ways) // wanted] for number in range(min(wanted, len(ways)))}
    return sorted(spread | set(FEW))


def outcomes_in_the_box(nbassay, path, out):
    """By ``nbassay check``."""
    done = nbassay("check", path, "-o", out, "--json", cwd=path.parent)
    assert done.stdout, done.stderr
    return {check["id"]: check["outcome"] for check in json.loads(done.stdout)["checks"]}


def outcomes_in_a_kernel(path):
    """By ``%assay`` at the end of the same cells."""
    with live_kernel(path.parent) as kernel:
        kernel.run("%load_ext nbassay")
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                kernel.run(cell.source)
        return kernel.run("%assay").outcomes


def decided(outcomes):
    """Training draws other numbers here and there: of an accuracy only whether it was measured."""
    by_chance = WORKSHOP.manifest.bounds
    return {
        check: "measured" if check in by_chance and outcome in ("passed", "failed") else outcome
        for check, outcome in outcomes.items()
    }


BUILT = """
import keras, numpy as np
layers = keras.layers
model = keras.Sequential([keras.Input((784,)), layers.Dense(16, "relu"), layers.Dense(16, "relu"),
                          layers.Dense(10, "softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
x_train = np.fromfile("data/train-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 784) / 255
y_train = np.fromfile("data/train-labels-idx1-ubyte", np.uint8)[8:]
"""
"""Three right steps in one cell."""
FITTED = "history = model.fit(x_train, y_train, batch_size=1000, epochs={}, verbose=0)"


@pytest.fixture
def late(kit, nbassay):
    """A kernel in which nothing watches yet."""
    folder = kit / "lab"
    assert nbassay("data", folder / "data", cwd=kit).returncode == 0
    with live_kernel(folder) as kernel:
        yield kernel


def test_a_network_that_was_compiled_before_is_read_from_what_it_kept(late):
    """
    Loaded behind ``compile``, the network's own settings are judged, and a ``fit`` from then on is.
    """
    late.run(BUILT)
    late.run("%load_ext nbassay")
    compiled = late.run("%assay 6")
    late.run(FITTED.format(10))
    fitted = late.run("%assay 6")

    network = dict.fromkeys(("model.layers", "model.activations", "model.compiled"), "passed")
    assert compiled.outcomes == {
        **network,
        "train.data": "not-reached",
        "train.epochs": "not-reached",
    }
    assert fitted.outcomes == {**network, "train.data": "passed", "train.epochs": "passed"}


def test_a_training_that_nobody_saw_is_neither_right_nor_wrong(late):
    """
    Loaded behind ``fit``, nothing that depends on it is judged, also when it goes on; what the
    network shows by itself is, and what its history says is told.
    """
    late.run(BUILT.replace('"adam"', '"sgd"'))
    late.run("networks = [model]")
    late.run(FITTED.format(2))
    late.run("%load_ext nbassay")
    before = late.run("%assay")
    late.run(FITTED.format(1))
    late.run("networks[0].evaluate(x_train[:100], y_train[:100], verbose=0)")
    after = late.run("%assay")

    trained = ("train.data", "train.epochs", "accuracy.train", "accuracy.test")
    for shown in (before, after):
        assert {shown.outcomes[check] for check in trained} == {"not-reached"}
        assert shown.outcomes["model.layers"] == "passed"
        assert shown.outcomes["model.compiled"] == "failed"
        assert shown.outcomes["evaluate.test"] == "not-reached"
        assert "model was trained before nbassay was loaded" in shown.text
        assert "load nbassay in the first cell" in shown.text
    assert "Its history has 2 epochs and ends with accuracy 0." in before.text


@pytest.mark.parametrize(
    "way_id",
    [
        pytest.param(way_id, marks=() if way_id in FEW else pytest.mark.every)
        for way_id in chosen(sorted(WAYS.keys() - ONLY_BOXED))
    ],
)
def test_the_box_and_a_kernel_agree(kit, nbassay, tmp_path, way_id):
    """
    ``nbassay check`` and ``%assay`` give each check the same outcome for this way to do the lab.
    """
    path = kit / "lab" / f"{way_id}.ipynb"
    source = WORKSHOP.path(WORKSHOP.manifest.reference).read_bytes()
    path.write_bytes(build_notebook(WAYS[way_id], source))

    boxed = outcomes_in_the_box(nbassay, path, tmp_path / "out")
    live = outcomes_in_a_kernel(path)

    assert decided(live) == decided(boxed)
