"""
Every decoder of hostile bytes: no exception but its own, no hang, no growth, a valid result.

A few hundred examples each by default; ten minutes each with ``HYPOTHESIS_PROFILE=long``.
"""

from __future__ import annotations

import base64
import contextlib
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import numpy as np
import pytest
from conftest import RIGHT_CELLS, Nbassay, write_notebook
from fuzzing import (
    ARRAYS,
    BLOBS,
    ODD_JSON,
    ODD_VALUES,
    as_json,
    facts,
    fuzzed,
    mutated,
    pngs,
    spoiled,
)
from hypothesis import strategies as st
from test_evidence import INDEX, evidence_with

from nbassay.errors import EvidenceError, NotebookError, SubmissionError
from nbassay.evidence import Collector, decode_blob, read_evidence, write_evidence
from nbassay.executed import executed_notebook
from nbassay.inside.channel import BLOB, CELL, FACT, frame
from nbassay.notebook import Notebook, decode_notebook
from nbassay.records import Evidence, Fact, RemarkFact, Results
from nbassay.sandbox import Limits
from nbassay.sandbox.supervise import MAX_FRAME_BYTES, _FrameReader, _Stop
from nbassay.store import Kept
from nbassay.submissions import find_submissions

# ---------------------------------------------------------------- notebooks

SOURCES = st.sampled_from(["a = 1", "import x", "", "%%bash\nls"]) | st.text() | ODD_JSON
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw", "heading"]) | ODD_VALUES,
        "source": SOURCES | st.lists(SOURCES, max_size=3),
        "input": SOURCES,
        "metadata": ODD_JSON | st.fixed_dictionaries({"vscode": ODD_JSON}),
        "language": ODD_VALUES,
        "level": ODD_VALUES,
        "outputs": ODD_JSON,
        "execution_count": ODD_VALUES,
    },
)
LISTED = st.lists(CELLS | ODD_JSON, max_size=4)
NAMED = st.fixed_dictionaries({}, optional={"name": ODD_JSON, "language": ODD_JSON})
NOTEBOOKS = st.fixed_dictionaries(
    {"cells": LISTED},
    optional={
        "nbformat": st.integers(0, 6) | ODD_VALUES,
        "nbformat_minor": st.integers(0, 9) | ODD_VALUES,
        "metadata": st.fixed_dictionaries(
            {}, optional={"kernelspec": NAMED, "language_info": NAMED}
        )
        | ODD_JSON,
        "worksheets": st.lists(st.fixed_dictionaries({"cells": LISTED}) | ODD_JSON) | ODD_JSON,
    },
)
WRAPPED = (
    NOTEBOOKS | st.lists(NOTEBOOKS, max_size=2) | st.fixed_dictionaries({"content": NOTEBOOKS})
)
ENCODED = st.builds(
    lambda raw, encoding: raw.decode().encode(encoding),
    WRAPPED.map(as_json),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]),
)


@fuzzed(mutated(ENCODED))
def test_notebooks(raw: bytes) -> None:
    """
    A file is a notebook that can be sent into a box, or is refused with a reason to be kept.
    """
    try:
        notebook = decode_notebook(raw)
    except NotebookError as error:
        keep_notes([str(error)])
        return
    keep_notes(list(notebook.notes))  # each of these raises what the promise does not allow
    nbformat.validate(nbformat.from_dict(notebook.content))
    assert msgspec.json.decode(msgspec.json.encode(notebook.content)) == notebook.content
    nbformat.validate(nbformat.reads(executed_notebook(notebook, {}), 4))


def keep_notes(notes: list[str]) -> None:
    """They are few and short, and go into ``submission.json``."""
    msgspec.json.encode(Kept(learner="a", file="a", digest="", notes=notes, unreadable=None))
    assert len(notes) < 40
    assert all(len(note) < 500 for note in notes)


# ---------------------------------------------------------------- frames

FRAMES = st.lists(
    st.tuples(st.sampled_from([FACT, BLOB, CELL, b"EVIL"]), st.binary(max_size=40)), max_size=6
)
STREAMS = mutated(FRAMES.map(lambda frames: b"".join(frame(*one) for one in frames)))
LIMITS = Limits(evidence_mb=1)


def frames_of(chunks: list[bytes]) -> tuple[list[tuple[bytes, bytes]], str]:
    """What a reader hands over of a pipe that gives these bytes, and why it stopped."""
    found: list[tuple[bytes, bytes]] = []
    reader = _FrameReader(LIMITS, lambda *one: found.append(one))
    try:
        for chunk in chunks:
            reader.feed(chunk)
            assert len(reader._buffer) <= sum(map(len, chunks))
    except _Stop as stop:
        return found, stop.message
    return found, ""


def cut_at_once(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The whole frames at the beginning of a stream, up to the first that is too large."""
    found, left = [], LIMITS.evidence_mb << 20
    while len(stream) >= 12:
        size = int.from_bytes(stream[4:12], "big")
        left -= max(12 + size, 256)
        if size > MAX_FRAME_BYTES or left < 0 or len(stream) < 12 + size:
            break
        found.append((stream[:4], stream[12 : 12 + size]))
        stream = stream[12 + size :]
    return found


@fuzzed(st.tuples(STREAMS, st.lists(st.integers(1, 20), min_size=1)))
def test_frames(hostile: tuple[bytes, list[int]]) -> None:
    """
    The pipe's bytes are cut into the same frames however they arrive.
    """
    stream, sizes = hostile
    chunks, at = [], 0
    while at < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[at : at + size])
        at += size

    assert frames_of(chunks) == frames_of([stream])
    assert frames_of(chunks)[0] == cut_at_once(stream)


# ---------------------------------------------------------------- evidence

PICTURES = (pngs() | mutated(pngs())).map(lambda raw: base64.b64encode(raw).decode())
BUNDLES = st.dictionaries(
    st.sampled_from(["text/plain", "image/png", "text/html", "image/svg+xml"]),
    PICTURES | st.text() | ODD_JSON,
)
OUTPUTS = st.fixed_dictionaries(
    {
        "output_type": st.sampled_from(["stream", "error", "display_data", "execute_result"])
        | ODD_VALUES
    },
    optional={
        "name": ODD_VALUES,
        "text": st.text() | ODD_JSON,
        "ename": ODD_JSON,
        "evalue": ODD_JSON,
        "traceback": ODD_JSON | st.lists(ODD_VALUES),
        "data": BUNDLES | ODD_JSON,
    },
)
SHOWN = st.fixed_dictionaries(
    {"index": st.integers(0, 3), "outputs": st.lists(OUTPUTS, max_size=3)}
)
SENT = st.builds(
    lambda blobs, frames: [*[(BLOB, blob) for blob in blobs], *frames],
    st.sampled_from([BLOBS, []]),
    st.lists(
        st.tuples(st.just(FACT), facts(Fact))
        | st.tuples(st.just(BLOB), mutated(st.sampled_from(BLOBS)))
        | st.tuples(st.just(CELL), SHOWN.map(as_json) | mutated(spoiled(SHOWN).map(as_json))),
        max_size=8,
    ),
)


@fuzzed(SENT)
def test_evidence(sent: list[tuple[bytes, bytes]]) -> None:
    """
    What a box sends becomes evidence that can be written and read again, or is refused.
    """
    collector = Collector()
    for kind, payload in sent:
        collector.on_frame(kind, payload)
    found, blobs = collector.finish(INDEX)
    evidence = msgspec.structs.replace(evidence_with(found), refused=collector.refused)
    with tempfile.TemporaryDirectory() as folder:
        write_evidence(Path(folder) / "evidence", evidence, blobs)
        again, arrays = read_evidence(Path(folder) / "evidence")

    assert again == evidence
    assert set(arrays) == set(blobs)
    notebook = Notebook(digest="", content={"cells": []}, notes=())
    executed_notebook(notebook, collector.cells)


@fuzzed(mutated(st.sampled_from(BLOBS)))
def test_blobs(payload: bytes) -> None:
    """
    A blob is an array of exactly its bytes, or is refused.
    """
    try:
        ref, array = decode_blob(payload)
    except EvidenceError:
        return

    assert len(ref) == 64
    assert array.nbytes <= len(payload)


KEPT_BLOBS = {"a" * 64: ARRAYS[1], "b" * 64: ARRAYS[2], "c" * 64: np.arange(9, dtype=np.int32)}


def evidence_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "evidence"
        remark: Fact = RemarkFact(cell=0, topic="cut", text="é")
        write_evidence(folder, evidence_with([remark]), KEPT_BLOBS)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


FILES = evidence_files()


@fuzzed(
    st.sampled_from(sorted(FILES)).flatmap(
        lambda name: st.tuples(st.just(name), mutated(st.just(FILES[name])))
    )
)
def test_evidence_changed_on_disk(changed: tuple[str, bytes]) -> None:
    """
    Files that somebody changed are evidence all the same, or are refused.
    """
    name, raw = changed
    with tempfile.TemporaryDirectory() as folder:
        for other, right in FILES.items():
            (Path(folder) / other).write_bytes(raw if other == name else right)
        with contextlib.suppress(EvidenceError):
            evidence, arrays = read_evidence(Path(folder))
            assert isinstance(evidence, Evidence)
            assert all(isinstance(array, np.ndarray) for array in arrays.values())


# ---------------------------------------------------------------- outputs

ONE_CELL = decode_notebook(as_json({"cells": [{"cell_type": "code", "source": "a"}]}))


@fuzzed(st.lists(OUTPUTS, max_size=4))
def test_outputs(outputs: list[dict[str, Any]]) -> None:
    """
    Whatever a cell showed, ``executed.ipynb`` is a valid notebook with nothing active in it.
    """
    notebook = nbformat.reads(executed_notebook(ONE_CELL, {0: outputs}), 4)
    nbformat.validate(notebook)

    for output in notebook.cells[0].outputs:
        assert set(output.get("data", {})) <= {"text/plain", "image/png"}


# ---------------------------------------------------------------- archives


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Zips as learning platforms make them, with odd names and every way of packing."""
    names = st.sampled_from(
        ["ann/lab.ipynb", "é.ipynb", "../up.ipynb", "/abs.ipynb", "x/"]
    ) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9).map(
        lambda name: f"{name}.ipynb"
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in draw(st.lists(names, max_size=3, unique=True)):
            how = draw(
                st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
            )
            archive.writestr(name, draw(st.binary(max_size=30)) * 20, how)
    return packed.getvalue()


@fuzzed(archives() | mutated(archives()))
def test_archives(raw: bytes) -> None:
    """
    A zip holds notebooks that can be read or say why not, or is refused whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "class.zip"
        path.write_bytes(raw)
        try:
            found = find_submissions([path])
        except SubmissionError as error:
            str(error).encode()
            return
        for one in found:
            keep_notes(list(one.notes))
            msgspec.json.encode(
                Kept(learner=one.learner, file=one.file, digest="", notes=[], unreadable=None)
            )
            with contextlib.suppress(NotebookError):
                assert isinstance(one.read(), bytes)


# ---------------------------------------------------------------- through the public door

HOSTILE_FRAMES = {
    "text": frame(FACT, b'{"type":"remark","cell":0,"topic":"cut","text":"\xff"}'),
    "axes": frame(
        BLOB, b'\x00\x43{"dtype":"float32","shape":[0,9007199254740992,9007199254740992,1]}'
    ),
    "nested": frame(FACT, b"[" * 100_000),
    "outputs": frame(CELL, b'{"index":0,"outputs":[{"output_type":"\xff"}]}'),
    "sizes": FACT + b"\xff" * 8,
}
SEND = """
import glob, os
for place in glob.glob('/run/nbassay/facts-*'):
    with open(place, 'ab') as file:
        file.write({frame!r})
"""


@pytest.mark.kernel
def test_a_class_of_hostile_frames(nbassay: Nbassay, tmp_path: Path) -> None:
    """
    A notebook that writes frames of its own is sent to a person, and stops nobody else.
    """
    homework, out = tmp_path / "homework", tmp_path / "graded"
    for name, hostile in HOSTILE_FRAMES.items():
        write_notebook(homework / f"{name}.ipynb", *RIGHT_CELLS, SEND.format(frame=hostile))
    write_notebook(homework / "honest.ipynb", *RIGHT_CELLS)
    done = nbassay("grade", homework, "-o", out)
    assert done.returncode == 0, done.stderr
    results = msgspec.json.decode((out / "results.json").read_bytes(), type=Results)

    assert {one.learner: one.status for one in results.submissions} == {
        **dict.fromkeys(HOSTILE_FRAMES, "needs-review"),
        "honest": "graded",
    }
    assert {one.score for one in results.submissions} == {100}
