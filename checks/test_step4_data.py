"""Step 4: the four data files are loaded, and a digit was looked at."""

from __future__ import annotations

import numpy as np
import pytest

from nbassay.authoring import Saw, check, not_reached
from nbassay.observed import Observed
from nbassay.pristine import UNKNOWN, PristineSet

LOAD = "Load the four files with idx2numpy, and look at the shape of what you get."


def see_images(part: PristineSet, observed: Observed, saw: Saw) -> None:
    """Some array held every image of *part* and nothing else."""
    seen = [sighting for sighting in observed.sightings() if observed.covers(sighting.array, part)]
    raw = [sighting for sighting in seen if sighting.array.shape == list(part.features.shape)]
    if not seen:
        not_reached(f"the {part.name} images were never in memory: {observed.why_missing()}")
    first = (raw or seen)[0]
    shape = " × ".join(str(n) for n in first.array.shape)
    place = f"{first.array.dtype} in cell {first.cell + 1}"
    saw(f"{shape} {place}, all {part.count:,} images of the file")
    saw.number(f"{part.name} images as loaded", f"{shape}, {first.array.dtype}")
    assert seen


def see_labels(part: PristineSet, observed: Observed, saw: Saw) -> None:
    """Some array held the labels of *part*, in the file's order or beside their own images."""
    for sighting in observed.sightings():
        values = observed.label_values(sighting.array)
        if values is not None and np.array_equal(values, part.labels):
            saw(f"{len(values):,} labels in cell {sighting.cell + 1}")
            return
        agree = observed.labels_agree(sighting.array, sighting.labels)
        if agree is not None and agree.all() and observed.covers(sighting.array, part):
            saw(f"{len(agree):,} labels beside their images in cell {sighting.cell + 1}")
            return
        given = observed.label_values(sighting.labels)
        if given is not None and np.array_equal(given, part.labels):
            saw(f"{len(given):,} labels in cell {sighting.cell + 1}")
            return
    not_reached(f"the {part.name} labels were never in memory: {observed.why_missing()}")


@check("data.train_images", step=4, hint=LOAD)
def test_training_images_were_loaded(observed: Observed, saw: Saw) -> None:
    """The 60,000 training images of the lab, 28 × 28 pixels, were in memory."""
    see_images(observed.pristine["train"], observed, saw)


@check("data.train_labels", step=4, hint=LOAD)
def test_training_labels_were_loaded(observed: Observed, saw: Saw) -> None:
    """The 60,000 labels of the training images were in memory."""
    see_labels(observed.pristine["train"], observed, saw)


@check("data.test_images", step=4, hint=LOAD)
def test_test_images_were_loaded(observed: Observed, saw: Saw) -> None:
    """The 10,000 test images of the lab, 28 × 28 pixels, were in memory."""
    see_images(observed.pristine["test"], observed, saw)


@check("data.test_labels", step=4, hint=LOAD)
def test_test_labels_were_loaded(observed: Observed, saw: Saw) -> None:
    """The 10,000 labels of the test images were in memory."""
    see_labels(observed.pristine["test"], observed, saw)


@check("data.example_shown", step=4, hint="Draw one image of the data with plt.imshow.")
def test_a_digit_was_shown(observed: Observed, saw: Saw) -> None:
    """One digit of the data was shown as a picture."""
    for picture in observed.pictures:
        positions = observed.positions(picture.array)
        if positions is not None and (positions != UNKNOWN).all():
            saw(f"an image of the data in cell {picture.cell + 1}")
            return
    for cell in observed.cells:
        if cell.other_pictures:
            saw(f"a picture in cell {cell.index + 1}, not by Matplotlib: claimed, not verified")
            return
    if not observed.pictures:
        not_reached(f"no picture was drawn: {observed.why_missing()}")
    count = len(observed.pictures)
    pytest.fail(f"{count} pictures, none of them an image of the data", pytrace=False)
