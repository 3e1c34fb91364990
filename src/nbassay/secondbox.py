"""
Networks that NumPy cannot follow, measured by Keras in a second box.

The learner's code never runs there: what goes in are graphs and weights that were let in at the
border, and our own script (`nbassay.inside.rebuild`). What comes out are classes, which are checked
here and kept with the evidence, so that scoring starts no box.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from nbassay.errors import EvidenceError
from nbassay.evidence import decode_blob
from nbassay.graph import plan_of, weights_of
from nbassay.inside.channel import BLOB, FACT, blob_payload, frame
from nbassay.inside.rebuild import Job, Question, Reply
from nbassay.measure import preparation_for
from nbassay.observed import Observed
from nbassay.pristine import Pristine
from nbassay.records import Evidence, Rebuilt, SecondBox
from nbassay.sandbox import Box, Mount
from nbassay.workbench import Workbench

MOST_NETWORKS = 10
"""States asked about; the latest count, as a learner's last training does."""
MOST_OPERATIONS = 4_000_000_000_000
"""Multiplications for all of them: some minutes; a small convolutional network takes 2e11."""

SILENCE = {
    "finished": "gave no answer",
    "crashed": "ended by itself",
    "could-not-start": "could not start",
    "killed-outside": "was killed from outside",
    "wall-time": "took too long",
    "cpu-time": "took too much processor time",
    "memory": "took too much memory",
    "evidence-size": "sent too much",
}
"""How a box ended that left a network without an answer."""

Blobs = dict[str, np.ndarray]

_decode_reply = msgspec.json.Decoder(Reply).decode


def measure_again(
    evidence: Evidence,
    blobs: Mapping[str, np.ndarray],
    bench: Workbench,
    *,
    env: Mapping[str, str],
    workdir: str,
    should_stop: Callable[[], bool],
) -> tuple[SecondBox | None, Blobs]:
    """
    Ask Keras what trained networks answer that NumPy cannot follow.

    Args:
        evidence: What the first box showed.
        bench: Where the first box ran.
        env: The whole environment inside.
        workdir: Working folder inside.

    Returns:
        How the second box ended with what each network answered, and the blobs that this names;
        None and no blobs when no network needs one.
    """
    workshop, pristine = bench.workshop, bench.pristine
    observed = Observed(evidence, blobs, pristine)
    questions, left_out = _questions(observed)
    if not questions and not left_out:
        return None, {}
    ending = None
    replies = _Replies(questions, pristine, blobs)
    if questions:
        files = {
            name: part.features
            for name, part in workshop.manifest.data.sets.items()
            if name in pristine.sets
        }
        box = Box(
            argv=[sys.executable, "-I", "-m", "nbassay.inside.rebuild"],
            stdin=_job(files, questions, blobs),
            mounts=[
                Mount(host=bench.data_folder / file, inside=f"{workdir}/{file}")
                for file in files.values()
            ],
            env=env,
            limits=workshop.limits,
            writable=[workdir, "/tmp"],  # noqa: S108 - inside
            workdir=workdir,
        )
        ending = bench.sandbox.run(box, replies.on_frame, should_stop=should_stop)
    why_not = SILENCE.get(ending.reason, ending.reason) if ending is not None else ""
    networks = [
        replies.found.get(question.state) or _without(question, f"the second sandbox {why_not}")
        for question in questions
    ]
    networks += [
        _without(question, "it is too large, or one of too many, to be measured in a second box")
        for question in left_out
    ]
    kept = {ref for network in networks for ref in network.classes.values()}
    return (
        SecondBox(ending=ending, networks=networks),
        {ref: replies.blobs[ref] for ref in kept},
    )


def _questions(observed: Observed) -> tuple[list[Question], list[Question]]:
    """Networks to ask about, the latest first, and those beyond what may be spent."""
    rows = sum(part.count for part in observed.pristine.sets.values())
    left = MOST_OPERATIONS
    asked: dict[int, Question] = {}
    left_out: dict[int, Question] = {}
    for candidate in reversed(observed.candidates()):
        state = candidate.state
        if not candidate.fits or state.steps is not None or state.graph is None:
            continue
        try:
            preparation = preparation_for(candidate, observed)
        except ValueError:
            continue  # measure says the same, and why
        if state.state in asked or state.state in left_out:
            continue
        question = Question(state=state.state, graph=state.graph, preparation=preparation)
        cost = rows * plan_of(state.graph, observed.blobs).operations
        if len(asked) < MOST_NETWORKS and cost <= left:
            left -= cost
            asked[state.state] = question
        else:
            left_out[state.state] = question
    return list(asked.values()), list(left_out.values())


def _job(
    files: dict[str, str], questions: list[Question], blobs: Mapping[str, np.ndarray]
) -> bytes:
    job = Job(files=files, questions=questions)
    refs = {
        ref
        for question in questions
        for node in question.graph.nodes
        for _name, ref, _axes in weights_of(node)
    }
    return b"".join(
        [
            frame(FACT, msgspec.json.encode(job)),
            *(frame(BLOB, blob_payload(blobs[ref])) for ref in sorted(refs)),
        ]
    )


class _Replies:
    """What the second box sends, believed as little as the first."""

    def __init__(
        self, questions: list[Question], pristine: Pristine, blobs: Mapping[str, np.ndarray]
    ) -> None:
        self.found: dict[int, Rebuilt] = {}
        self.blobs: Blobs = {}
        self._asked = {question.state: question for question in questions}
        self._pristine = pristine
        self._told = blobs

    def on_frame(self, kind: bytes, payload: bytes) -> None:
        """Take one frame; one that is none leaves its network without an answer."""
        try:
            if kind == BLOB:
                ref, array = decode_blob(payload)
                self.blobs[ref] = array
            elif kind == FACT:
                self._take(_decode_reply(payload))
        except (EvidenceError, msgspec.DecodeError):
            return

    def _take(self, reply: Reply) -> None:
        question = self._asked.get(reply.state)
        if question is None or reply.state in self.found:
            return
        try:
            if reply.why_not is not None:
                raise ValueError(reply.why_not)
            self.found[reply.state] = self._checked(question, reply)
        except (ValueError, KeyError) as error:
            self.found[reply.state] = _without(question, str(error))

    def _checked(self, question: Question, reply: Reply) -> Rebuilt:
        """
        The reply as evidence.

        Raises:
            ValueError, KeyError: It is no answer to *question*.
        """
        own = self._told[question.graph.answer]
        again = self.blobs[reply.sample or ""]
        if again.dtype != own.dtype or again.shape != own.shape:
            raise ValueError("the network built again has another output")
        for name, part in self._pristine.sets.items():
            classes = self.blobs[reply.classes[name]]
            if classes.dtype != np.int64 or classes.shape != (part.count,):
                raise ValueError("the second box did not answer for every row")
            if len(classes) and not 0 <= classes.min() <= classes.max() < own.shape[1]:
                raise ValueError("the second box answered with a class that is none")
        with np.errstate(all="ignore"):
            gap = float(np.abs(again.astype(np.float64) - own).max())
        return _rebuilt(
            question,
            gap=gap if math.isfinite(gap) else None,
            classes={name: reply.classes[name] for name in self._pristine.sets},
            why_not=None,
        )


def _without(question: Question, why_not: str) -> Rebuilt:
    return _rebuilt(question, gap=None, classes={}, why_not=why_not[:4000])


def _rebuilt(
    question: Question, *, gap: float | None, classes: dict[str, str], why_not: str | None
) -> Rebuilt:
    preparation = question.preparation
    return Rebuilt(
        state=question.state,
        scale=preparation.scale,
        offset=preparation.offset,
        dtype=preparation.dtype,
        gap=gap,
        classes=classes,
        why_not=why_not,
    )
