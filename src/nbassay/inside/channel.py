"""
Frames: how facts and blobs travel from the kernel to the executor and on to the host.

A frame is ``!4sQ`` (kind, payload bytes) and its payload. A FACT is one JSON record; a BLOB is
``!H`` (header bytes), a JSON `BlobHeader` and raw little-endian numbers. What the executor itself
saw comes as TOLD and CELL, which a kernel cannot send: how a cell ended is not the notebook's to
say.
"""

from __future__ import annotations

import hashlib
import os
import struct

import msgspec
import numpy as np

from nbassay.records import BlobHeader, Fact, RemarkFact

FACT = b"FACT"
BLOB = b"BLOB"
TOLD = b"TOLD"  # from the executor: one JSON record
CELL = b"CELL"  # from the executor: outputs of one cell, for executed.ipynb
KERNELS = (FACT, BLOB)
HEAD = struct.Struct("!4sQ")
BLOB_HEAD = struct.Struct("!H")


def frame(kind: bytes, payload: bytes) -> bytes:
    """One frame, ready to write."""
    return HEAD.pack(kind, len(payload)) + payload


def blob_payload(array: np.ndarray) -> bytes:
    """Header and raw bytes of *array*; its SHA-256 is the blob's name."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    header = msgspec.json.encode(BlobHeader(dtype=array.dtype.name, shape=list(array.shape)))  # type: ignore[arg-type]
    return BLOB_HEAD.pack(len(header)) + header + little.tobytes()


class Channel:
    """
    Appends frames to the facts file, within a budget.

    Args:
        descriptor: Open file to append to.
        budget_bytes: All frames together; what does not fit is left out, and a remark says so.
    """

    def __init__(self, descriptor: int, budget_bytes: int) -> None:
        self._descriptor = descriptor
        self._left = budget_bytes
        self._sent: set[str] = set()
        self._was_cut = False

    def fact(self, fact: Fact) -> None:
        """Send one fact."""
        self._send(FACT, msgspec.json.encode(fact))

    def blob(self, array: np.ndarray) -> str:
        """Send *array* once and return the name that facts call it by."""
        payload = blob_payload(array)
        ref = hashlib.sha256(payload).hexdigest()
        if ref not in self._sent:
            self._sent.add(ref)
            self._send(BLOB, payload)
        return ref

    def _send(self, kind: bytes, payload: bytes) -> None:
        data = frame(kind, payload)
        if len(data) > self._left:
            if not self._was_cut:
                self._was_cut = True
                remark = RemarkFact(
                    cell=0,
                    topic="cut",
                    text="The evidence was full before the notebook ended; later facts are lost.",
                )
                os.write(self._descriptor, frame(FACT, msgspec.json.encode(remark)))
            return
        self._left -= len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
