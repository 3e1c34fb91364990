"""Step 5: images become rows of 784 pixels, scaled to 0..1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from nbassay.authoring import Saw, check, not_reached
from nbassay.observed import Candidate, Observed, Sighting, steps_before_first_dense
from nbassay.pristine import PristineSet
from nbassay.workshop import Tolerance

if TYPE_CHECKING:
    from conftest import Prepared

PIXELS = 784
"""28 × 28, one row of the flattened images."""
FLATTEN = "Reshape to one row of 784 pixels an image, keeping the first axis: the number of images."


def see_rows(part: PristineSet, observed: Observed, candidate: Candidate | None, saw: Saw) -> None:
    """Some array held every image of *part* as one row of 784, or the network flattens itself."""
    wanted = [part.count, PIXELS]
    flattens = candidate is not None and any(
        step.op == "flatten" for step in steps_before_first_dense(candidate.state)
    )
    other: Sighting | None = None
    for sighting in observed.sightings():
        if sighting.array.shape == wanted and observed.covers(sighting.array, part):
            saw(f"({part.count}, {PIXELS}) in cell {sighting.cell + 1}, each row one image")
            saw.number(f"{part.name} images flattened", f"{part.count} × {PIXELS}")
            return
        if flattens and sighting.where != "namespace" and observed.covers(sighting.array, part):
            saw(f"a Flatten layer of the network turns {part.count} images into rows of {PIXELS}")
            saw.number(f"{part.name} images flattened", f"{part.count} × {PIXELS}, by a layer")
            return
        if sighting.array.shape == wanted:
            other = sighting
        elif sighting.array.shape[1:] == [PIXELS] and observed.is_part_of(sighting.array, part):
            other = other or sighting
    if other is not None:
        shape = tuple(other.array.shape)
        strange = ", but its rows are not the images" if other.array.shape == wanted else ""
        pytest.fail(f"{shape} in cell {other.cell + 1}{strange}", pytrace=False)
    if not any(observed.covers(sighting.array, part) for sighting in observed.sightings()):
        not_reached(f"the {part.name} images were never in memory: {observed.why_missing()}")
    pytest.fail(f"the {part.name} images were never rows of {PIXELS} pixels", pytrace=False)


@check("prep.train_shape", step=5, hint=FLATTEN)
def test_training_images_are_rows(
    observed: Observed, candidate: Candidate | None, saw: Saw
) -> None:
    """The training images became an array of shape (60000, 784), each row one image."""
    see_rows(observed.pristine["train"], observed, candidate, saw)


@check("prep.test_shape", step=5, hint=FLATTEN)
def test_test_images_are_rows(observed: Observed, candidate: Candidate | None, saw: Saw) -> None:
    """The test images became an array of shape (10000, 784), each row one image."""
    see_rows(observed.pristine["test"], observed, candidate, saw)


def scaled_later(images: Prepared, observed: Observed) -> Sighting | None:
    """The same set from 0.0 to 1.0, seen only after the network had got it."""
    part = observed.pristine[images.part]
    for sighting in observed.sightings():
        if (
            sighting.order > images.sighting.order
            and sighting.where == "namespace"
            and (sighting.array.low, sighting.array.high) == (0.0, 1.0)
            and observed.covers(sighting.array, part)
        ):
            return sighting
    return None


@check("prep.scaling", step=5, hint="Convert to a float type, then divide by 255 once, both sets.")
def test_pixels_are_scaled(
    prepared: list[Prepared], observed: Observed, tolerances: Mapping[str, Tolerance], saw: Saw
) -> None:
    """Pixel values of both sets are floats from 0.0 to 1.0."""
    within = pytest.approx
    tolerance = tolerances["scaling"].value
    for images in prepared:
        saw(images.told)
        saw.number(f"{images.name}, range of values", f"{images.low:g} to {images.high:g}")
        later = scaled_later(images, observed)
        if images.high != within(1.0, abs=tolerance) and later is not None:
            saw(f"the {images.name} were scaled only afterwards, in cell {later.cell + 1}")
    for images in prepared:
        assert images.is_float, (
            f"the {images.name} are whole numbers ({images.sighting.array.dtype})"
        )
        assert images.low == within(0.0, abs=tolerance)
        assert images.high == within(1.0, abs=tolerance)
