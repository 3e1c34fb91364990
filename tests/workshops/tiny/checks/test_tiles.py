"""The checks of the tiles workshop."""

from __future__ import annotations

import numpy as np
import pytest

from nbassay.authoring import Saw, check, not_reached
from nbassay.observed import Observed, Sighting


@pytest.fixture(scope="session")
def tiles(observed: Observed) -> list[Sighting]:
    """Every array that held all tiles."""
    part = observed.pristine["tiles"]
    found = [one for one in observed.sightings() if observed.covers(one.array, part)]
    if not found:
        not_reached(f"the tiles were never in memory: {observed.why_missing()}")
    return found


@check("tiles.loaded", step=1, hint="Read tiles-idx3-ubyte.")
def test_tiles_were_loaded(tiles: list[Sighting], saw: Saw) -> None:
    """The 40 tiles were in memory."""
    saw(f"in cell {tiles[0].cell + 1}")
    saw.number("tiles", str(tiles[0].array.shape[0]))
    assert tiles


@check("labels.loaded", step=1, hint="Read labels-idx1-ubyte.")
def test_labels_were_loaded(observed: Observed, saw: Saw) -> None:
    """The 40 labels were in memory."""
    labels = observed.pristine["tiles"].labels
    held = [observed.label_values(one.array) for one in observed.sightings()]
    if not held:
        not_reached(f"no labels were read: {observed.why_missing()}")
    assert any(values is not None and np.array_equal(values, labels) for values in held)


@check("tiles.flat", step=2, hint="Keep the first axis: one row a tile.")
def test_tiles_are_flat(tiles: list[Sighting], saw: Saw) -> None:
    """The tiles became an array of shape (40, 16)."""
    shapes = [tuple(one.array.shape) for one in tiles]
    saw(f"shapes {', '.join(map(str, dict.fromkeys(shapes)))}")
    assert (40, 16) in shapes


@check("tiles.scaled", step=2, hint="Divide by the largest value that a pixel can have.")
def test_tiles_are_scaled(tiles: list[Sighting], saw: Saw) -> None:
    """The values of the tiles lie between 0.0 and 1.0."""
    last = tiles[-1].array
    saw(f"{last.low} to {last.high}")
    assert (last.low, last.high) == (0.0, 1.0)
