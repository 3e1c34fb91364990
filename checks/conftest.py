"""What the checks of the MNIST lab ask about, as fixtures that skip when it never came to be."""

from __future__ import annotations

import dataclasses

import pytest

from nbassay.authoring import not_reached
from nbassay.measure import prepared_range
from nbassay.observed import Candidate, Observed, Sighting, steps_before_first_dense
from nbassay.pristine import PristineSet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """One set in the form in which it reached the network, or was last seen without one."""

    name: str
    part: str
    """Name of the set in the manifest."""
    sighting: Sighting
    low: float
    """Smallest value that reaches the first Dense layer, in its units."""
    high: float
    is_float: bool
    by_layers: bool
    """Whether layers of the network itself flatten or scale."""

    @property
    def told(self) -> str:
        given = f"given to {self.sighting.where} in"
        where = {"namespace": "after", "loader": "loaded in"}.get(self.sighting.where, given)
        place = f"{where} cell {self.sighting.cell + 1}"
        layers = ", by the network's own layers" if self.by_layers else ""
        return f"{self.name}: {self.low:g} to {self.high:g} ({place}{layers})"


@pytest.fixture(scope="session")
def network(candidate: Candidate | None, observed: Observed) -> Candidate:
    """The network that is being judged."""
    if candidate is None:
        not_reached(f"no network was built: {observed.why_missing()}")
    assert candidate is not None
    return candidate


@pytest.fixture(scope="session")
def compiled_network(network: Candidate, observed: Observed) -> Candidate:
    """The same, compiled or trained: one that can be asked."""
    if network.state.compiled is None and not network.fits:
        not_reached(f"the network was never compiled: {observed.why_missing()}")
    return network


@pytest.fixture(scope="session")
def training(compiled_network: Candidate, observed: Observed) -> Candidate:
    """The same, trained here, and seen from the start of it."""
    if compiled_network.state.was_trained_before:
        not_reached(
            "the network was trained before nbassay was loaded: on what, and for how long, was "
            "not seen"
        )
    if not any(fit.epochs_run for fit in compiled_network.fits):
        not_reached(f"no network was trained here: {why_untrained(compiled_network, observed)}")
    return compiled_network


def why_untrained(network: Candidate, observed: Observed) -> str:
    """Why no epoch was finished, as far as what was given to fit or done to the weights tells."""
    for fit in observed.fits:
        x, y = fit.data.x, fit.data.y
        if fit.model != network.state.model or x is None or y is None:
            continue
        if x.shape[0] != y.shape[0]:
            return f"fit was given {x.shape[0]:,} images and {y.shape[0]:,} labels"
    topics = {remark.topic for remark in observed.remarks}
    if "hand-training" in topics:
        return "a loop of the notebook's own changed its weights"
    if "weights-loaded" in topics:
        return "its weights were put there instead"
    was_seen_whole = not observed.evidence.refused and observed.unseen is None
    if was_seen_whole and not observed.fits and all(cell.status == "ok" for cell in observed.cells):
        return "fit was never called"
    return observed.why_missing()


def sightings_for(
    part: PristineSet, observed: Observed, candidate: Candidate | None
) -> list[Sighting]:
    """
    Where a set could have been prepared, best evidence first.

    What the judged network was given comes first; what merely lay in memory after it, the last
    float array before the rest, since a preparation goes from whole numbers to floats.
    """
    given: list[Sighting] = []
    fits = {id(fit.data.x) for fit in candidate.fits} if candidate else set()
    asked = (
        {id(fact.data.x) for _order, fact in observed.questions(candidate)} if candidate else set()
    )
    held = (
        {id(fit.validation.x) for fit in candidate.fits if fit.validation} if candidate else set()
    )
    lying: list[Sighting] = []
    for sighting in observed.sightings():
        array = sighting.array
        is_strange = not observed.knows(array)  # scrambled, or on no one scale: still what was used
        if part.name == "train":
            if id(array) in fits and (observed.is_part_of(array, part) or is_strange):
                given.append(sighting)
        elif id(array) in asked | held and (
            observed.covers(array, part) or (is_strange and array.shape[0] == part.count)
        ):
            given.append(sighting)
        if sighting.where in ("namespace", "loader") and observed.covers(array, part):
            lying.append(sighting)
    floats = [sighting for sighting in lying if sighting.array.dtype.startswith("float")]
    partly = [
        sighting
        for sighting in observed.sightings()
        if id(sighting.array) in asked and observed.is_part_of(sighting.array, part)
    ]
    return [*reversed(given), *reversed(floats), *reversed(lying), *reversed(partly)]


@pytest.fixture(scope="session")
def prepared(candidate: Candidate | None, observed: Observed) -> list[Prepared]:
    """Both sets as they were prepared."""
    found = []
    for part in (observed.pristine["train"], observed.pristine["test"]):
        sightings = sightings_for(part, observed, candidate)
        if not sightings:
            not_reached(f"the {part.name} images were never in memory: {observed.why_missing()}")
        sighting = sightings[0]
        state = candidate.state if candidate else None
        reached = prepared_range(sighting.array, state, observed, part)
        if reached is None:
            not_reached(f"the values of the {part.name} images could not be read")
        assert reached is not None
        steps = steps_before_first_dense(state) if state else []
        scales = [step for step in steps if step.op != "flatten"]
        found.append(
            Prepared(
                name=f"{part.name} images",
                part=part.name,
                sighting=sighting,
                low=reached[0],
                high=reached[1],
                is_float=sighting.array.dtype.startswith(("float", "bfloat")) or bool(scales),
                by_layers=bool(scales),
            )
        )
    return found
