"""
Draw the pictures of the lab: ``python lab/images/draw.py``.

Everything is drawn from the MNIST files in ``lab/data`` and from nothing random, so the same
matplotlib gives the same pictures again.
"""

from __future__ import annotations

import gzip
import io
import itertools
from pathlib import Path

import idx2numpy
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"

INK = "#1f2933"
QUIET = "#7b8794"
LAYER_COLOURS = ("#9aa5b1", "#2f7fd1", "#2f7fd1", "#e07a2f")
CENTRED = {"ha": "center", "va": "center"}


def main() -> None:
    """Draw all three pictures beside this file."""
    mpl.use("agg")
    mpl.rcParams["font.family"] = "DejaVu Sans"  # comes with matplotlib, so it is there everywhere
    images = read("train-images-idx3-ubyte.gz")
    labels = read("train-labels-idx1-ubyte.gz")
    save(digits(images, labels), "digits.png")
    save(network(images[5]), "network.png")
    save(digit(images[5], int(labels[5])), "digit-5.png")


def read(name: str) -> np.ndarray:
    """Read one gzip-compressed IDX file of the lab."""
    with gzip.open(DATA / name) as stream:
        return idx2numpy.convert_from_file(stream)


def save(figure: Figure, name: str) -> None:
    """Write a PNG of 96 colours: a page loads it in no time, and nobody sees a difference."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, facecolor="white")
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB")
    picture = picture.quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(HERE / name, optimize=True)


def digits(images: np.ndarray, labels: np.ndarray, rows: int = 5, columns: int = 8) -> Figure:
    """The first digits of a set in a grid, each with its label under it."""
    figure, grid = plt.subplots(rows, columns, figsize=(columns * 0.9, rows * 1.12))
    for axes, image, label in zip(grid.flat, images, labels, strict=False):
        axes.imshow(image, cmap="gray_r")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color("#cbd2d9")
        axes.set_xlabel(str(label), fontsize=13, color=INK, labelpad=3)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.985, bottom=0.06, wspace=0.15, hspace=0.35)
    return figure


def digit(image: np.ndarray, label: int) -> Figure:
    """What the learner sees after showing image 5."""
    figure, axes = plt.subplots(figsize=(4.2, 4.4))
    axes.imshow(image, cmap="gray_r")
    axes.set_title(f"label: {label}")
    figure.tight_layout()
    return figure


def network(image: np.ndarray) -> Figure:
    """The network 784-16-16-10, with a digit going in and ten answers coming out."""
    figure = plt.figure(figsize=(10, 5.6))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(0, 5.6))
    axes.axis("off")

    layers = [
        (3.1, [*heights(7, 3.62, 5.12), *heights(7, 0.88, 2.38)]),  # 14 of the 784, with a gap
        (5.0, heights(16, 0.8, 5.2)),
        (6.9, heights(16, 0.8, 5.2)),
        (8.8, heights(10, 1.0, 5.0)),
    ]
    for (x, lower), (next_x, upper) in itertools.pairwise(layers):
        connect(axes, x, lower, next_x, upper)
    for (x, ys), colour in zip(layers, LAYER_COLOURS, strict=True):
        axes.scatter([x] * len(ys), ys, s=120, c=colour, edgecolors="white", lw=1.5, zorder=3)
    for offset in (-0.28, 0.0, 0.28):  # the inputs that are not drawn
        axes.scatter([3.1], [3.0 + offset], s=11, c=LAYER_COLOURS[0], zorder=3)

    frame = figure.add_axes((0.035, 0.36, 0.18, 0.18 * 10 / 5.6))
    frame.imshow(image, cmap="gray_r")
    frame.set_xticks([])
    frame.set_yticks([])
    for spine in frame.spines.values():
        spine.set_color("#cbd2d9")
    axes.annotate("", (2.82, 3.0), (2.28, 3.0), arrowprops={"arrowstyle": "-|>", "color": QUIET})

    for number, y in enumerate(reversed(layers[-1][1])):
        said = number == 2  # what this digit is
        look = {"color": LAYER_COLOURS[-1], "weight": "bold"} if said else {"color": QUIET}
        axes.text(9.12, y, str(number), va="center_baseline", fontsize=13, **look)
        if said:
            axes.scatter(
                [8.8], [y], s=300, facecolors="none", edgecolors=LAYER_COLOURS[-1], zorder=4
            )

    captions = [
        (1.25, "28 × 28 pixels", "one digit"),
        (3.1, "784", "inputs"),
        (5.0, "16", "hidden, ReLU"),
        (6.9, "16", "hidden, ReLU"),
        (8.8, "10", "output, softmax"),
    ]
    for x, number, name in captions:
        size = 11 if x < 2 else 15
        axes.text(x, 0.47, number, **CENTRED, fontsize=size, color=INK, weight="bold")
        axes.text(x, 0.18, name, **CENTRED, fontsize=10.5, color=QUIET)
    return figure


def heights(count: int, low: float, high: float) -> list[float]:
    """Return evenly spaced heights, the lowest first."""
    return [float(y) for y in np.linspace(low, high, count)]


def connect(axes: Axes, x: float, lower: list[float], next_x: float, upper: list[float]) -> None:
    """Draw a faint line from every neuron of a layer to every neuron of the next."""
    lines = [((x, y), (next_x, next_y)) for y in lower for next_y in upper]
    axes.add_collection(LineCollection(lines, colors="#d3dbe4", linewidths=0.6))


if __name__ == "__main__":
    main()
