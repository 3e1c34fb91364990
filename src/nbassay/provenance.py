"""
Where a sheet's points come from: what the code says beside what the facts claim.

Facts are told by the notebook's own process. Accuracy is measured from weights, but where those
weights come from is a claim. Here signs are looked for that a claim may be no more than that. A
sign proves nothing and costs nobody a mark: the notebook runs once more with renamed classes (a
challenge, see `nbassay.renaming`), and only who does not pass that, too, is looked at by a person.
"""

from __future__ import annotations

from nbassay.observed import Observed
from nbassay.records import CodeFact, FitFact, Measurement, Provenance

GRADER = "nbassay"
ITS_FOLDER = "/run/nbassay"
MOST_CODE_BYTES = 30_000
"""The lab asks for 2,000; a network's weights as text take 10,000 and more."""
MOST_LITERAL_BYTES = 3_000
"""The lab's network fits into 5,000, packed to the last bit; the lab's own constants take 700."""
GOOD_ACCURACY = 0.5
"""Of a network that no fit was seen for: untrained ones guess, at one in ten."""
HISTORY_GAP = 0.15
"""Dropout and batch statistics make a history lower than its network, by less than this."""
DEEP_NAMES = frozenset(
    {
        *("get_objects", "get_referrers", "_getframe", "settrace", "setprofile"),
        *("__subclasses__", "__globals__", "__code__", "ctypes", "cffi"),
    }
)
"""Ways to the objects of others in the same process."""
ODD_NAMES = frozenset(
    {
        # code made at run time
        *("exec", "eval", "__import__", "import_module", "__builtins__", "builtins"),
        # what IPython does with cells, and the text of cells
        *("input_transformers_post", "input_transformers_cleanup", "ast_transformers"),
        *("history_manager", "_ih", "getsource"),
        # objects and numbers that come packed
        *("marshal", "pickle", "dill", "cloudpickle", "joblib", "zlib", "lzma"),
        *("base64", "b64decode", "b85decode", "a85decode", "unhexlify", "fromhex"),
        # weights that come from elsewhere
        *("load_model", "load_weights", "set_weights"),
    }
)


def reaches(observed: Observed) -> list[str]:
    """What the code says that no work on the lab would: a person decides, whatever it earns."""
    code = observed.code
    if code is None:
        return []
    names = set(code.names)
    if names & {GRADER, ITS_FOLDER} or any(name.startswith(f"{ITS_FOLDER}/") for name in names):
        return [
            f"the code names {GRADER}: whoever knows the grader from inside may have told it what "
            "was never done"
        ]
    deep = sorted(DEEP_NAMES & names)
    if deep:
        return [f"the code reaches into the interpreter with {', '.join(deep)}"]
    return []


def signs(observed: Observed, measurement: Measurement | None) -> list[str]:
    """
    Why it may be that work was brought along instead of done, each a phrase for a report.

    Args:
        measurement: Of the network that the sheet is about.
    """
    return [*_of_code(observed.code), *_of_facts(observed, measurement)]


def provenance_of(
    found: list[str], lost_again: list[str] | None, *, is_measured: bool
) -> Provenance:
    """
    What is known of a sheet's origin, in words for its report.

    Args:
        found: Signs.
        lost_again: Checks that the challenge did not pass again; None when there was none.
        is_measured: Whether an accuracy was measured.
    """
    verified = ["How each cell ended, told by what ran them."]
    claimed = ["What was printed and drawn, training histories and times."]
    if is_measured:
        verified.insert(0, "Accuracy, measured by the grader from the network's own weights.")
    if lost_again == []:
        verified.append(
            "That what passed was worked out in the run: with secretly renamed classes the "
            "notebook passed the same checks."
        )
    else:
        claimed.insert(0, "That what passed was worked out in the run, not brought along.")
    return Provenance(
        signs=found,
        challenge="not-run" if lost_again is None else "failed" if lost_again else "passed",
        verified=verified,
        claimed=claimed,
    )


def doubts_of(provenance: Provenance, lost_again: list[str] | None) -> list[str]:
    """What a person must look at, in sentences."""
    because = "; ".join(provenance.signs)
    if provenance.challenge == "failed":
        why = f" It was run again because {because}." if because else ""
        return [
            "run again with secretly renamed classes, the notebook did not pass "
            f"{', '.join(lost_again or [])} again: that work seems to have been brought along, not "
            f"done here.{why}"
        ]
    if provenance.challenge == "not-run" and because:
        return [
            f"it is not verified that the work was done in this run ({because}); "
            "`nbassay grade` runs such a notebook once more with renamed classes"
        ]
    return []


def _of_code(code: CodeFact | None) -> list[str]:
    if code is None:
        return ["its code was not read"]
    found = []
    odd = sorted(ODD_NAMES.intersection(code.names))
    if odd:
        found.append(f"the code uses {', '.join(odd[:5])}{', …' if len(odd) > 5 else ''}")
    if code.replaced:
        found.append(f"the code replaces {', '.join(code.replaced[:5])}")
    if code.literal_bytes > MOST_LITERAL_BYTES:
        found.append(f"constants in the code hold {code.literal_bytes:,} bytes")
    elif code.code_bytes > MOST_CODE_BYTES:
        found.append(f"the code has {code.code_bytes:,} bytes")
    if code.unread_cells or code.was_cut:
        found.append("parts of the code could not be read")
    return found


def _of_facts(observed: Observed, measurement: Measurement | None) -> list[str]:
    found = []
    code, fits = observed.code, [fit for fit in observed.fits if fit.epochs_run]
    if fits and code is not None and "fit" not in code.names:
        found.append("a fit was told of that no cell names")
    if any(_changed_nothing(fit, observed) for fit in fits):
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
    before = observed.states.get(-1 if fit.before is None else fit.before)
    after = observed.states.get(-1 if fit.state is None else fit.state)
    if before is None or after is None or before.weights is None:
        return False
    return before.weights == after.weights


def _last_accuracy(fit: FitFact) -> float | None:
    """What the history of *fit* ends with."""
    for metric, values in fit.history.items():
        if "acc" in metric and not metric.startswith("val_") and values:
            return values[-1] if isinstance(values[-1], float) else None
    return None
