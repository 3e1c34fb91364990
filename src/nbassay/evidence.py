"""
The border: bytes from a box become records here, or are refused with the reason.

Nothing is unpickled, no name or path of the learner's is used as one, every length is bounded
before it is parsed. Row digests are keyed with a nonce that only this run knew; here they become
positions in the pristine sets, and the nonce is forgotten.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nbassay.errors import EvidenceError, OutputError
from nbassay.files import UNFINISHED, why_not_written
from nbassay.graph import plan_of, weights_of
from nbassay.inside.channel import BLOB, BLOB_HEAD, CELL, FACT, TOLD
from nbassay.inside.watching import SAMPLE_ROWS
from nbassay.outputs import decode_outputs
from nbassay.pristine import RowIndex
from nbassay.records import (
    BlobHeader,
    CellFact,
    CodeFact,
    Evidence,
    Fact,
    Graph,
    Labels,
    ModelFact,
    Node,
    PredictFact,
    Rebuilt,
    Record,
    Rows,
    Step,
)

MOST_FACTS = 20_000
MOST_FACT_BYTES = 2 << 20
"""One fact, as JSON: a history of 20,000 epochs; in memory up to twenty times as much."""
MOST_FACTS_BYTES = 8 << 20
"""All facts of a run; ten networks trained and tried in forty cells send 0.03 MB."""
MOST_NUMBERS = 200_000
"""In all facts of a run: each takes two bytes of JSON and thirty of memory."""
MOST_BLOBS = 20_000
MOST_OUTPUT_BYTES = 16 << 20
"""All cells' outputs, whatever ``output_mb`` says: one letter may make a text four times as big."""
MOST_REFUSALS = 100
MOST_GRAPHS = 400
"""Each is walked through, weights and all; the probe tells of 200 states."""
MOST_MENTIONED = 50_000_000
"""
Rows and labels that all facts name together, those that several name counted again: each fact's
are looked at by several checks. An honest run names 120,000 a fit.
"""
EVIDENCE_FILE = "evidence.json"
ARRAYS_FILE = "arrays.safetensors"

Blobs = Mapping[str, np.ndarray]
"""Blob name → array. Of `Rows.digests`: int32 positions in the pristine sets."""

# Decoders are made while modules are imported: msgspec crashes when two threads are the first to
# decode a type.
_decode_evidence = msgspec.json.Decoder(Evidence).decode
_decode_fact = msgspec.json.Decoder(Fact).decode
_decode_header = msgspec.json.Decoder(BlobHeader).decode


class Collector:
    """Takes the frames of one run and keeps what can be believed to be evidence."""

    def __init__(self) -> None:
        self.cells: dict[int, list[dict[str, Any]]] = {}
        """Outputs a cell, as sent; `nbassay.executed` cleans them."""
        self.refused: list[str] = []
        self._facts: list[Fact] = []
        self._blobs: dict[str, np.ndarray] = {}
        self._graphs = 0
        self._fact_bytes = self._numbers = self._output_bytes = self._mentioned = 0

    def on_frame(self, kind: bytes, payload: bytes) -> None:
        """Decode one frame; what cannot be decoded is refused, never raised."""
        try:
            if kind in (FACT, TOLD):
                self._take_fact(payload, is_executors=kind == TOLD)
            elif kind == BLOB:
                self._take_blob(payload)
            elif kind == CELL:
                self._take_cell(payload)
            else:
                raise EvidenceError(f"a frame of unknown kind {kind!r}")
        except (EvidenceError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(str(error))

    def finish(self, index: RowIndex) -> tuple[list[Fact], dict[str, np.ndarray]]:
        """
        Facts whose blobs are all there and fit them, and those blobs.

        Args:
            index: Of the pristine rows under this run's nonce.
        """
        facts: list[Fact] = []
        kept: dict[str, np.ndarray] = {}
        for fact in self._facts:
            try:
                needed = {need.ref: self._needed(need) for need in _needs(fact)}
                if isinstance(fact, ModelFact) and fact.graph is not None:
                    self._check_graph(fact.graph, needed)
            except EvidenceError as error:
                self._refuse(str(error))
                continue
            for ref in needed.keys() - kept.keys():  # thousands of facts may name the same rows
                is_rows = needed[ref].dtype == np.uint64
                kept[ref] = index.positions(needed[ref]) if is_rows else needed[ref]
            facts.append(fact)
        return facts, kept

    def _take_fact(self, payload: bytes, *, is_executors: bool) -> None:
        if len(payload) > MOST_FACT_BYTES:
            raise EvidenceError(f"a fact of {len(payload)} bytes")
        if len(self._facts) >= MOST_FACTS:
            raise EvidenceError(f"more than {MOST_FACTS} facts")
        self._fact_bytes += len(payload)
        if self._fact_bytes > MOST_FACTS_BYTES:
            raise EvidenceError(f"facts of more than {MOST_FACTS_BYTES} bytes")
        fact = _decode_fact(payload)
        if isinstance(fact, CellFact) and not is_executors:
            raise EvidenceError("a kernel that tells how its own cells ended")
        if isinstance(fact, CodeFact) and not is_executors:
            raise EvidenceError("a kernel that tells what its own code says")
        numbers = self._numbers
        for value in _floats(fact):
            numbers += 1
            if numbers > MOST_NUMBERS:
                raise EvidenceError(f"more than {MOST_NUMBERS} numbers in facts")
            if not math.isfinite(value):
                raise EvidenceError("a number that is not finite")
        self._numbers = numbers
        self._facts.append(fact)

    def _take_blob(self, payload: bytes) -> None:
        if len(self._blobs) >= MOST_BLOBS:
            raise EvidenceError(f"more than {MOST_BLOBS} blobs")
        ref, array = decode_blob(payload)
        self._blobs[ref] = array

    def _take_cell(self, payload: bytes) -> None:
        self._output_bytes += len(payload)
        if self._output_bytes > MOST_OUTPUT_BYTES:
            raise EvidenceError(f"outputs of more than {MOST_OUTPUT_BYTES} bytes")
        cell = decode_outputs(payload)
        if cell.index in self.cells:
            raise EvidenceError("outputs of a cell that was sent before")
        self.cells[cell.index] = cell.outputs

    def _check_graph(self, graph: Graph, weights: Blobs) -> None:
        """
        Refuse a network that cannot be built from the numbers that its fact names.

        Raises:
            EvidenceError: It cannot, or there are too many.
        """
        self._graphs += 1
        if self._graphs > MOST_GRAPHS:
            raise EvidenceError(f"more than {MOST_GRAPHS} networks as graphs")
        try:
            plan = plan_of(graph, weights)
        except ValueError as error:
            raise EvidenceError(f"a network that cannot be built: {error}") from error
        answer = weights[graph.answer]
        if answer.shape != (SAMPLE_ROWS, plan.outputs):
            raise EvidenceError(f"an answer of another shape than its network's: {answer.shape}")

    def _needed(self, need: _Need) -> np.ndarray:
        array = self._blobs.get(need.ref)
        if array is None:
            raise EvidenceError("a fact names numbers that were not sent")
        need.check(array, need.dtype)
        if need.dtype in ("int64", "uint64"):  # the long lists that checks go through
            self._mentioned += array.size
            if self._mentioned > MOST_MENTIONED:
                raise EvidenceError(f"facts of more than {MOST_MENTIONED} rows and labels")
        return array

    def _refuse(self, why: str) -> None:
        if len(self.refused) < MOST_REFUSALS:
            self.refused.append(why[:4000])


def decode_blob(payload: bytes) -> tuple[str, np.ndarray]:
    """
    Name and array of a BLOB frame.

    Raises:
        EvidenceError: There is no header, or it does not fit the bytes.
    """
    if len(payload) < BLOB_HEAD.size:
        raise EvidenceError("a blob without a header")
    (length,) = BLOB_HEAD.unpack_from(payload)
    start = BLOB_HEAD.size + length
    try:
        header = _decode_header(payload[BLOB_HEAD.size : start])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceError(f"a blob's header: {error}") from error
    dtype = np.dtype(header.dtype).newbyteorder("<")
    expected = math.prod(header.shape) * dtype.itemsize  # Python integers: cannot overflow
    if len(payload) - start != expected:
        raise EvidenceError(
            f"a blob of {len(payload) - start} bytes where its header tells {expected}"
        )
    try:
        array = np.frombuffer(payload, dtype, offset=start).reshape(header.shape)
    except ValueError as error:  # an empty one with axes longer than NumPy can count
        raise EvidenceError(f"a blob of shape {header.shape}: {error}") from error
    return hashlib.sha256(payload).hexdigest(), array.astype(header.dtype)


def write_evidence(folder: Path, evidence: Evidence, blobs: Blobs) -> None:
    """
    Write *folder* whole: beside first, then renamed into place.

    Raises:
        OutputError: It cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(evidence), indent=1)
    arrays = save({name: np.ascontiguousarray(blobs[name]) for name in sorted(blobs)})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=UNFINISHED))
        try:
            for name, content in ((EVIDENCE_FILE, text + b"\n"), (ARRAYS_FILE, arrays)):
                (beside / name).write_bytes(content)
                (beside / name).chmod(0o644)
            beside.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            beside.replace(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {why_not_written(error)}") from error


def read_evidence(folder: Path) -> tuple[Evidence, dict[str, np.ndarray]]:
    """
    Read what `write_evidence` wrote.

    Raises:
        EvidenceError: There is none, it is not evidence of this version, or its arrays are not
            those that its facts name.
    """
    try:
        return decode_evidence(
            (folder / EVIDENCE_FILE).read_bytes(), (folder / ARRAYS_FILE).read_bytes()
        )
    except (OSError, EvidenceError) as error:
        raise EvidenceError(f"{folder}: no evidence that can be read: {error}") from error


def decode_evidence(text: bytes, arrays: bytes) -> tuple[Evidence, dict[str, np.ndarray]]:
    """
    Evidence and its arrays from the bytes of their two files.

    Raises:
        EvidenceError: They are not evidence of this version, or the arrays are not those that its
            facts name.
    """
    try:
        evidence = _decode_evidence(text)
        blobs = load(arrays)
        for need in _needs([evidence.facts, evidence.second]):
            if need.ref not in blobs:
                raise EvidenceError(f"no array {need.ref[:12]}…")
            need.check(blobs[need.ref], "int32" if need.dtype == "uint64" else need.dtype)
    except (ValueError, RecursionError, SafetensorError) as error:
        raise EvidenceError(str(error)) from error
    return evidence, blobs


class _Need(NamedTuple):
    """An array that a fact names."""

    ref: str
    dtype: str
    """As the box sends it; of rows positions are kept instead of the uint64 digests."""
    dimensions: int

    def check(self, array: np.ndarray, dtype: str) -> None:
        """Raise `EvidenceError` unless *array* is of *dtype* and has as many axes as it must."""
        if array.dtype.name != dtype or array.ndim != self.dimensions:
            raise EvidenceError(
                f"numbers of another kind: expected {dtype} with {self.dimensions} axes, "
                f"found {array.dtype.name} with {array.ndim}"
            )


def _needs(facts: Any) -> Iterator[_Need]:
    """Every array that *facts*, a record or a list of them, name."""
    for record in _records(facts):
        if isinstance(record, Rows):
            yield _Need(record.digests, "uint64", 1)
        elif isinstance(record, Labels):
            yield _Need(record.values, "int64", 1)
        elif isinstance(record, Step):
            for ref, dimensions in (
                (record.kernel, 2),
                (record.bias, 1),
                (record.mean, 1),
                (record.deviation, 1),
            ):
                if ref is not None:
                    yield _Need(ref, "float32", dimensions)
        elif isinstance(record, Node):
            for _name, ref, axes in weights_of(record):
                yield _Need(ref, "float32", axes)
        elif isinstance(record, Graph):
            yield _Need(record.answer, "float32", 2)
        elif isinstance(record, Rebuilt):
            for ref in record.classes.values():
                yield _Need(ref, "int64", 1)
        elif isinstance(record, PredictFact) and record.classes is not None:
            yield _Need(record.classes, "int64", 1)


def _records(record: Any) -> Iterator[Record]:
    """*record* and all records inside it, outer ones first."""
    waiting = [record]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Record):
            yield found
            waiting += [getattr(found, name) for name in reversed(found.__struct_fields__)]
        elif isinstance(found, (list, tuple)):
            waiting += reversed(found)


def _floats(record: Any) -> Iterator[float]:
    if isinstance(record, float):
        yield record
    elif isinstance(record, Record):
        for name in record.__struct_fields__:
            yield from _floats(getattr(record, name))
    elif isinstance(record, (list, tuple)):
        for item in record:
            yield from _floats(item)
    elif isinstance(record, dict):
        for item in record.values():
            yield from _floats(item)
