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
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nbassay.errors import EvidenceError, OutputError
from nbassay.graph import plan_of, weights_of
from nbassay.inside.channel import BLOB, BLOB_HEAD, CELL, FACT
from nbassay.inside.watching import SAMPLE_ROWS
from nbassay.pristine import RowIndex
from nbassay.records import (
    BlobHeader,
    Evidence,
    Fact,
    Graph,
    Labels,
    PredictFact,
    Record,
    Rows,
    Step,
)

MOST_FACTS = 20_000
MOST_FACT_BYTES = 4 << 20
MOST_REFUSALS = 100
MOST_GRAPHS = 400
"""Each is walked through, weights and all; the probe tells of 200 states."""
EVIDENCE_FILE = "evidence.json"
ARRAYS_FILE = "arrays.safetensors"

Blobs = Mapping[str, np.ndarray]
"""Blob name → array. Of `Rows.digests`: int32 positions in the pristine sets."""

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

    def on_frame(self, kind: bytes, payload: bytes) -> None:
        """Decode one frame; what cannot be decoded is refused, never raised."""
        try:
            if kind == FACT:
                self._take_fact(payload)
            elif kind == BLOB:
                ref, array = decode_blob(payload)
                self._blobs[ref] = array
            elif kind == CELL:
                self._take_cell(payload)
            else:
                raise EvidenceError(f"a frame of unknown kind {kind!r}")
        except (EvidenceError, msgspec.DecodeError, RecursionError) as error:
            self._refuse(str(error))

    def finish(self, index: RowIndex) -> tuple[list[Fact], dict[str, np.ndarray]]:
        """
        Facts whose blobs are all there and fit them, and those blobs.

        Args:
            index: Of the pristine rows under this run's nonce.
        """
        facts, kept = [], {}
        for fact in self._facts:
            try:
                for ref, resolved in self._resolve(fact, index):
                    kept[ref] = resolved
            except EvidenceError as error:
                self._refuse(str(error))
            else:
                facts.append(fact)
        return facts, kept

    def _take_fact(self, payload: bytes) -> None:
        if len(payload) > MOST_FACT_BYTES:
            raise EvidenceError(f"a fact of {len(payload)} bytes")
        if len(self._facts) >= MOST_FACTS:
            raise EvidenceError(f"more than {MOST_FACTS} facts")
        fact = _decode_fact(payload)
        for value in _floats(fact):
            if not math.isfinite(value):
                raise EvidenceError("a number that is not finite")
        self._facts.append(fact)

    def _take_cell(self, payload: bytes) -> None:
        report = msgspec.json.decode(payload, type=dict[str, Any])
        index, outputs = report.get("index"), report.get("outputs")
        if type(index) is not int or not isinstance(outputs, list) or index in self.cells:
            raise EvidenceError("outputs of no cell")
        self.cells[index] = [output for output in outputs if isinstance(output, dict)]

    def _resolve(self, fact: Fact, index: RowIndex) -> Iterator[tuple[str, np.ndarray]]:
        for record in _records(fact):
            if isinstance(record, Rows):
                digests = self._blob(record.digests, "uint64", 1)
                yield record.digests, index.positions(digests)
            elif isinstance(record, Labels):
                yield record.values, self._blob(record.values, "int64", 1)
            elif isinstance(record, Step):
                for ref, dimensions in (
                    (record.kernel, 2),
                    (record.bias, 1),
                    (record.mean, 1),
                    (record.deviation, 1),
                ):
                    if ref is not None:
                        yield ref, self._blob(ref, "float32", dimensions)
            elif isinstance(record, Graph):
                yield from self._graph(record)
            elif isinstance(record, PredictFact) and record.classes is not None:
                yield record.classes, self._blob(record.classes, "int64", 1)

    def _graph(self, graph: Graph) -> Iterator[tuple[str, np.ndarray]]:
        self._graphs += 1
        if self._graphs > MOST_GRAPHS:
            raise EvidenceError(f"more than {MOST_GRAPHS} networks as graphs")
        weights = {
            ref: self._blob(ref, "float32", axes)
            for node in graph.nodes
            for _name, ref, axes in weights_of(node)
        }
        answer = self._blob(graph.answer, "float32", 2)
        try:
            plan = plan_of(graph, weights)
        except ValueError as error:
            raise EvidenceError(f"a network that cannot be built: {error}") from error
        if answer.shape != (SAMPLE_ROWS, plan.outputs):
            raise EvidenceError(f"an answer of another shape than its network's: {answer.shape}")
        yield from weights.items()
        yield graph.answer, answer

    def _blob(self, ref: str, dtype: str, dimensions: int) -> np.ndarray:
        array = self._blobs.get(ref)
        if array is None:
            raise EvidenceError(f"a fact names numbers that were not sent ({ref[:12]}…)")
        if array.dtype.name != dtype or array.ndim != dimensions:
            raise EvidenceError(
                f"numbers of another kind: expected {dtype} with {dimensions} axes, "
                f"found {array.dtype.name} with {array.ndim}"
            )
        return array

    def _refuse(self, why: str) -> None:
        if len(self.refused) < MOST_REFUSALS:
            self.refused.append(why[:4000])


def decode_blob(payload: bytes) -> tuple[str, np.ndarray]:
    """
    Name and array of a BLOB frame.

    Raises:
        EvidenceError: Header and bytes do not fit together.
        msgspec.DecodeError: The header is not one.
    """
    if len(payload) < BLOB_HEAD.size:
        raise EvidenceError("a blob without a header")
    (length,) = BLOB_HEAD.unpack_from(payload)
    start = BLOB_HEAD.size + length
    header = _decode_header(payload[BLOB_HEAD.size : start])
    dtype = np.dtype(header.dtype).newbyteorder("<")
    expected = math.prod(header.shape) * dtype.itemsize  # Python integers: cannot overflow
    if len(payload) - start != expected:
        raise EvidenceError(
            f"a blob of {len(payload) - start} bytes where its header tells {expected}"
        )
    array = np.frombuffer(payload, dtype, offset=start).reshape(header.shape)
    return hashlib.sha256(payload).hexdigest(), array.astype(header.dtype)


def write_evidence(folder: Path, evidence: Evidence, blobs: Blobs) -> None:
    """
    Write *folder* whole: beside first, then renamed into place.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".evidence-"))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        text = msgspec.json.format(msgspec.json.encode(evidence), indent=1)
        (beside / EVIDENCE_FILE).write_bytes(text + b"\n")
        save_file(
            {name: np.ascontiguousarray(blobs[name]) for name in sorted(blobs)},
            beside / ARRAYS_FILE,
        )
        for path in beside.iterdir():
            path.chmod(0o644)
        beside.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        beside.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise OutputError(f"{folder}: cannot be written: {error}") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def read_evidence(folder: Path) -> tuple[Evidence, dict[str, np.ndarray]]:
    """
    Read what `write_evidence` wrote.

    Raises:
        EvidenceError: There is none, or it is not evidence of this version.
    """
    try:
        evidence = msgspec.json.decode((folder / EVIDENCE_FILE).read_bytes(), type=Evidence)
        return evidence, load_file(folder / ARRAYS_FILE)
    except (OSError, msgspec.DecodeError, SafetensorError) as error:
        raise EvidenceError(f"{folder}: no evidence that can be read: {error}") from error


def _records(record: Any) -> Iterator[Record]:
    """*record* and all records inside it."""
    if isinstance(record, Record):
        yield record
        for name in record.__struct_fields__:
            yield from _records(getattr(record, name))
    elif isinstance(record, (list, tuple)):
        for item in record:
            yield from _records(item)


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
