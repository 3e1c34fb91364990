"""
Where a sheet's points come from: what the code says beside what the facts claim.

Facts are told by the notebook's own process. Accuracy is measured from weights, but where those
weights come from is a claim. Here signs are looked for that a claim may be no more than that. A
sign proves nothing and costs nobody a mark: the notebook runs once more with renamed classes (a
challenge, see `nbassay.renaming`), and only who does not pass that, too, is looked at by a person.
What no work on the lab would show, a contradiction, is always looked at.
"""

from __future__ import annotations

from nbassay.challenge import Outcome
from nbassay.measure import known_before_training, predicted_classes, preparation_of
from nbassay.observed import Candidate, Observed
from nbassay.records import CodeFact, EvaluateFact, FitFact, Measurement, Provenance

GRADER = "nbassay"
FOLDER_OF_BOXES = "/run"
MOST_PACKED_BYTES = 3_500
"""The lab asks for 700; its network, packed to the last bit, brings 5,000 along."""
GOOD_ACCURACY = 0.5
"""Of a network that no fit was seen for: untrained ones guess, at one in ten."""
HISTORY_GAP = 0.3
"""Dropout and a first epoch's running mean make a history lower than its network, by less."""
CLAIM_TOLERANCE = 0.002
"""Accuracy that ``evaluate`` returned against ours; rounding moves a few images over a border."""
DEEP_NAMES = frozenset(
    {
        *("get_objects", "get_referrers", "get_referents", "_getframe", "settrace", "setprofile"),
        *("__subclasses__", "__globals__", "__code__", "__closure__", "__wrapped__", "__self__"),
        *("_self_wrapper", "_self_parent", "ctypes", "cffi"),
    }
)
"""Ways to the objects of others in the same process."""
ODD_NAMES = frozenset(
    {
        # code made at run time
        *("exec", "eval", "__import__", "import_module", "__builtins__", "builtins", "runpy"),
        *("run_cell", "run_code", "modules"),
        # what IPython does with cells, and the text of cells
        *("input_transformers_post", "input_transformers_cleanup", "ast_transformers"),
        *("history_manager", "In", "_ih", "_i", "_ii", "_iii", "getsource"),
        # objects and numbers that come packed
        *("marshal", "pickle", "dill", "cloudpickle", "joblib", "zlib", "lzma"),
        *("bz2", "codecs", "base64", "b64decode", "b85decode", "a85decode", "unhexlify"),
        *("fromhex", "from_bytes"),
        # weights that come from elsewhere
        *("load_model", "load_weights", "set_weights", "Checkpoint"),
    }
)


def contradictions(observed: Observed, candidate: Candidate | None) -> list[str]:
    """
    What no work on the lab would show: a person decides, whatever it earns.

    Args:
        candidate: The network that the sheet is about.
    """
    found = [*_other_accuracies(observed), *_reaches(observed.code)]
    fits = candidate.fits if candidate is not None else ()
    early = None if candidate is None else known_before_training(candidate, observed)
    if early is not None and early >= GOOD_ACCURACY and not _goes_on(observed, fits[0]):
        found.append(
            f"before its first fit the network already knew {early:.0%} of the test images, and "
            "no network had been fitted to such weights"
        )
    for fit in fits:
        lengths = {
            len(values) for name, values in fit.history.items() if not name.startswith("val_")
        }
        if lengths and max(lengths) != fit.epochs_run:
            found.append(
                f"cell {fit.cell + 1}: fit told of {fit.epochs_run} epochs, and its history of "
                f"{max(lengths)}"
            )
    return found


def _other_accuracies(observed: Observed) -> list[str]:
    """Accuracies that ``evaluate`` returned and the grader does not find."""
    if "test" not in observed.pristine.sets:
        return []
    test = observed.pristine["test"]
    found = []
    for fact in observed.evidence.facts:
        if not isinstance(fact, EvaluateFact) or fact.state not in observed.states:
            continue
        state = observed.states[fact.state]
        agree = observed.labels_agree(fact.data.x, fact.data.y)
        if not observed.covers(fact.data.x, test) or agree is None or not agree.all():
            continue
        assert fact.data.x is not None
        preparation = preparation_of(fact.data.x, observed.pristine.levels)
        claimed = [
            value
            for name, value in fact.returned.items()
            if "acc" in name and isinstance(value, float)
        ]
        if preparation is None or not claimed:
            continue
        try:
            classes = predicted_classes(state, observed, preparation, test)
        except (ValueError, KeyError):
            continue
        measured = float((classes == test.labels).mean())
        if abs(measured - claimed[0]) > CLAIM_TOLERANCE:
            found.append(
                f"cell {fact.cell + 1}: evaluate returned an accuracy of {claimed[0]:.4f}, "
                f"the same weights measure {measured:.4f}"
            )
    return found


def _reaches(code: CodeFact | None) -> list[str]:
    if code is None:
        return []
    names = set(code.names)
    is_grader = GRADER in names or any(
        name == FOLDER_OF_BOXES or name.startswith(f"{FOLDER_OF_BOXES}/") for name in names
    )
    if is_grader or any(name.startswith("NBASSAY_") for name in names):
        return [
            f"the code names {GRADER} or its folder: whoever knows the grader from inside may "
            "have told it what was never done"
        ]
    deep = sorted(DEEP_NAMES & names)
    if deep:
        return [f"the code reaches into the interpreter with {', '.join(deep)}"]
    return []


def _goes_on(observed: Observed, fit: FitFact) -> bool:
    """Whether *fit* began with weights that an earlier one, of any network, had ended with."""
    facts = observed.evidence.facts
    earlier = {
        _weights(one.state, observed)
        for one in facts[: facts.index(fit)]
        if isinstance(one, FitFact) and one.epochs_run
    }
    return _weights(fit.before, observed) in earlier - {None}


def signs(
    observed: Observed, candidate: Candidate | None, measurement: Measurement | None
) -> list[str]:
    """
    Why it may be that work was brought along instead of done, each a phrase for a report.

    Args:
        candidate: The network that the sheet is about.
        measurement: Of that network.
    """
    return [*_of_code(observed.code), *_of_facts(observed, candidate, measurement)]


def provenance_of(found: list[str], challenge: Outcome | None, *, is_measured: bool) -> Provenance:
    """
    What is known of a sheet's origin, in words for its report.

    Args:
        found: Signs.
        challenge: How the run with renamed classes came out; None when there was none.
        is_measured: Whether an accuracy was measured.
    """
    verified = ["Accuracy, measured by the grader from the network's own weights."] * is_measured
    claimed = [
        "Which data a network was fitted on and for how many epochs, shapes and ranges of arrays.",
        "What was printed and drawn, training histories, how each cell ended.",
    ]
    is_passed = challenge is not None and not challenge.lost and not challenge.is_same_network
    if is_passed:
        verified.append(
            "That what passed was worked out from the data: with secretly renamed classes the "
            "notebook passed the same checks."
        )
    else:
        claimed.insert(0, "That what passed was worked out from the data, not brought along.")
    return Provenance(
        signs=found,
        challenge="not-run" if challenge is None else "passed" if is_passed else "failed",
        verified=verified,
        claimed=claimed,
    )


def doubts_of(provenance: Provenance, challenge: Outcome | None, *, is_asked: bool) -> list[str]:
    """
    What a person must look at, in sentences.

    Args:
        is_asked: Whether the notebook was to run with renamed classes, signs or none.
    """
    because = "; ".join(provenance.signs)
    if challenge is not None and provenance.challenge == "failed":
        why = f" It was run again because {because}." if because else ""
        if challenge.lost:
            return [
                "run again with secretly renamed classes, the notebook did not pass "
                f"{', '.join(challenge.lost)} again: either that work was brought along, or the "
                f"notebook needs the labels' own names.{why}"
            ]
        return [
            "run again with renamed classes and other seeds, the notebook ended with the same "
            f"hidden layer: its weights were brought along, not trained.{why}"
        ]
    if provenance.challenge == "not-run" and because:
        return [
            f"it is not verified that the work was done in this run ({because}); "
            "`nbassay grade` runs such a notebook once more with renamed classes"
        ]
    if provenance.challenge == "not-run" and is_asked:
        return [
            "it is not verified that the work was done in this run: everybody was to run once more "
            "with renamed classes, and this notebook did not, or met a limit that its first run "
            "did not meet"
        ]
    return []


def _of_code(code: CodeFact | None) -> list[str]:
    if code is None:
        return []
    found = []
    odd = sorted(ODD_NAMES.intersection(code.names))
    if odd:
        found.append(f"the code uses {', '.join(odd[:5])}{', …' if len(odd) > 5 else ''}")
    if code.replaced:
        found.append(f"the code replaces {', '.join(code.replaced[:5])}")
    if code.packed_bytes > MOST_PACKED_BYTES:
        found.append(f"the code is long enough to hold a network ({code.packed_bytes:,} bytes)")
    if code.unread_cells or code.was_cut:
        found.append("parts of the code could not be read")
    return found


def _of_facts(
    observed: Observed, candidate: Candidate | None, measurement: Measurement | None
) -> list[str]:
    found = []
    code, fits = observed.code, candidate.fits if candidate is not None else ()
    if fits and code is not None and "fit" not in code.names:
        found.append("a fit was told of that no cell names")
    if any(fit.epochs_run and _changed_nothing(fit, observed) for fit in fits):
        found.append("a fit was told of after which the weights were the same as before")
    if any(remark.topic == "weights-loaded" for remark in observed.remarks):
        found.append("weights were put into a network")
    accuracy = None if measurement is None else measurement.train_accuracy
    if accuracy is not None:
        if not fits and accuracy >= GOOD_ACCURACY:
            found.append(f"a network knows {accuracy:.0%} of the images, and no fit was seen")
        told = _last_accuracy(fits[-1]) if fits else None
        if told is not None and accuracy - told > HISTORY_GAP:
            found.append(f"the last fit told of {told:.0%}, its network reaches {accuracy:.0%}")
    return found


def _changed_nothing(fit: FitFact, observed: Observed) -> bool:
    before = _weights(fit.before, observed)
    return before is not None and before == _weights(fit.state, observed)


def _weights(state: int | None, observed: Observed) -> str | None:
    """Digest of all weights in that state of a network; None when it was not told."""
    told = observed.states.get(-1 if state is None else state)
    return None if told is None else told.weights


def _last_accuracy(fit: FitFact) -> float | None:
    """What the history of *fit* ends with."""
    for metric, values in fit.history.items():
        if "acc" in metric and not metric.startswith("val_") and values:
            return values[-1] if isinstance(values[-1], float) else None
    return None
