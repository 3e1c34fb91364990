"""The border: what a box sends becomes records, or is refused with the reason."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbassay.errors import EvidenceError
from nbassay.evidence import MOST_MENTIONED, Collector, decode_blob, read_evidence, write_evidence
from nbassay.inside.arrays import row_digests
from nbassay.inside.channel import BLOB, CELL, FACT, TOLD, blob_payload
from nbassay.pristine import UNKNOWN, RowIndex
from nbassay.records import (
    Array,
    ArrayFact,
    CellFact,
    Ending,
    Evidence,
    Fact,
    Labels,
    RemarkFact,
    Rows,
)

NONCE = bytes(range(32))
ROWS = np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8)
INDEX = RowIndex(row_digests(ROWS, NONCE))


def fact_of_rows(digests: np.ndarray) -> tuple[bytes, bytes]:
    """FACT and BLOB payloads of an array with these row digests."""
    payload = blob_payload(digests)
    rows = Rows(
        width=16,
        count=len(digests),
        scale=1.0,
        offset=0.0,
        residual=0.0,
        digests=hashlib.sha256(payload).hexdigest(),
    )
    array = Array(shape=[len(digests), 16], dtype="uint8", low=0.0, high=255.0, rows=rows)
    return msgspec.json.encode(ArrayFact(cell=1, source="namespace", array=array)), payload


def test_digests_become_positions() -> None:
    """
    Rows are found whatever their order; rows of none are told as unknown.
    """
    shuffled = np.array([3, 1, 19, 0])
    fact, blob = fact_of_rows(row_digests(np.vstack([ROWS[shuffled], ROWS[:1] ^ 1]), NONCE))
    collector = Collector()
    collector.on_frame(FACT, fact)
    collector.on_frame(BLOB, blob)

    facts, blobs = collector.finish(INDEX)

    assert collector.refused == []
    assert isinstance(facts[0], ArrayFact)
    assert facts[0].array.rows is not None
    assert blobs[facts[0].array.rows.digests].tolist() == [3, 1, 19, 0, UNKNOWN]


def test_digests_under_another_nonce_are_unknown() -> None:
    """
    Digests of a classmate's run say nothing in this one.
    """
    fact, blob = fact_of_rows(row_digests(ROWS, bytes(32)))
    collector = Collector()
    collector.on_frame(FACT, fact)
    collector.on_frame(BLOB, blob)

    (only,), blobs = collector.finish(INDEX)

    assert isinstance(only, ArrayFact)
    assert only.array.rows is not None
    assert (blobs[only.array.rows.digests] == UNKNOWN).all()


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        (FACT, b"{", "truncated"),
        (FACT, b'{"type":"cell","index":-1,"status":"ok","seconds":1}', ">= 0"),
        (FACT, b'{"type":"cell","index":1,"status":"ok","seconds":1,"more":1}', "unknown field"),
        (FACT, b'{"type":"cell","index":1,"status":"great","seconds":1}', "Invalid enum"),
        (FACT, b'{"type":"verdict","mark":100}', "verdict"),
        (FACT, b'{"type":"cell","index":1,"status":"ok","seconds":1e999}', ""),
        (FACT, b" " * (5 << 20), "bytes"),
        (FACT, b"[" * 100_000, ""),
        (BLOB, b"", "without a header"),
        (BLOB, b"\xff\xff{}", ""),
        (BLOB, b'\x00\x21{"dtype":"float32","shape":[1000]}', ""),
        (BLOB, b'\x00\x20{"dtype":"object","shape":[1,1]}', "Invalid enum"),
        (BLOB, b'\x00\x32{"dtype":"int64","shape":[4294967296,4294967296]}', ""),
        (BLOB, b'\x00\x21{"dtype":"float32","shape":[\xff\xff]}', "header"),
        (
            BLOB,
            b'\x00\x43{"dtype":"float32","shape":[0,9007199254740992,9007199254740992,1]}',
            "a blob of shape",
        ),
        (FACT, b'{"type":"remark","cell":0,"topic":"cut","text":"\xff"}', "UTF-8"),
        (FACT, b'{"type":"remark","cell":0,"topic":"cut","\xfftext":""}', "UTF-8"),
        (FACT, b'{"type":"cell","index":1,"status":"ok","seconds":1}', "how its own cells ended"),
        (CELL, b'{"index":"../../etc","outputs":[]}', "no cell"),
        (CELL, b'{"index":0,"outputs":[{"output_type":"\xff"}]}', "no cell"),
        (CELL, b'{"index":0,"outputs":[[]]}', "no cell"),
        (b"EVIL", b"", "unknown kind"),
    ],
    ids=lambda value: value[:40].decode(errors="replace") if isinstance(value, bytes) else None,
)
def test_what_cannot_be_believed_is_refused(kind: bytes, payload: bytes, words: str) -> None:
    """
    A malformed frame is refused with the reason and leaves no fact.
    """
    collector = Collector()
    collector.on_frame(kind, payload)

    assert collector.finish(INDEX) == ([], {})
    assert len(collector.refused) == 1
    assert words.lower() in collector.refused[0].lower()


def test_a_fact_whose_numbers_are_missing_is_refused() -> None:
    """
    A fact that names a blob which was not sent, or one of another kind, is dropped.
    """
    fact, _blob = fact_of_rows(row_digests(ROWS, NONCE))
    missing = Collector()
    missing.on_frame(FACT, fact)
    labels = blob_payload(np.arange(4, dtype=np.float32))
    other = Collector()
    other.on_frame(BLOB, labels)
    array = Array(
        shape=[4],
        dtype="int64",
        low=0.0,
        high=3.0,
        labels=Labels(form="integer", classes=4, values=hashlib.sha256(labels).hexdigest()),
    )
    other.on_frame(FACT, msgspec.json.encode(ArrayFact(cell=0, source="loader", array=array)))

    assert missing.finish(INDEX) == ([], {})
    assert "were not sent" in missing.refused[0]
    assert other.finish(INDEX) == ([], {})
    assert "expected int64" in other.refused[0]


def test_numbers_that_many_facts_name_are_looked_up_once_and_bounded() -> None:
    """
    Thousands of facts about the same rows cost one look-up, and so many rows in all, no more.
    """
    looked = []

    class Index(RowIndex):
        def positions(self, digests: np.ndarray) -> np.ndarray:
            looked.append(len(digests))
            return super().positions(digests)

    collector = Collector()
    fact, blob = fact_of_rows(np.zeros(MOST_MENTIONED // 20, np.uint64))
    collector.on_frame(BLOB, blob)
    for _ in range(30):
        collector.on_frame(FACT, fact)
    facts, _blobs = collector.finish(Index(row_digests(ROWS, NONCE)))

    assert (len(facts), len(looked)) == (20, 1)
    assert "rows and labels" in collector.refused[0]


@given(st.sampled_from([FACT, TOLD, BLOB, CELL]), st.binary(max_size=400))
def test_no_bytes_break_the_decoder(kind: bytes, payload: bytes) -> None:
    """
    Whatever a box sends, decoding ends and raises nothing.
    """
    collector = Collector()
    collector.on_frame(kind, payload)
    facts, _blobs = collector.finish(INDEX)

    assert len(facts) + len(collector.refused) + len(collector.cells) <= 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "cell", "index", "status", "seconds", "array", "outputs", "data"]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_breaks_the_decoder(value: object) -> None:
    """
    JSON of any shape is a fact, outputs of a cell, or refused.
    """
    collector = Collector()
    for kind in (FACT, CELL):
        collector.on_frame(kind, json.dumps(value).encode())
    collector.finish(INDEX)

    assert len(collector.refused) + len(collector.cells) >= 1


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30))
def test_blobs_survive_the_way(numbers: list[int]) -> None:
    """
    decode(encode(x)) is x, and the name is that of the bytes.
    """
    array = np.array(numbers, np.int32)
    ref, decoded = decode_blob(blob_payload(array))

    assert decoded.dtype == array.dtype
    assert np.array_equal(decoded, array)
    assert ref == hashlib.sha256(blob_payload(array)).hexdigest()


@given(st.floats(), st.text(max_size=100))
def test_facts_survive_the_way(seconds: float, message: str) -> None:
    """
    decode(encode(x)) is x for a fact with any text in it, if its numbers are finite.
    """
    fact: Fact = CellFact(index=3, status="error", seconds=seconds, error_message=message)
    collector = Collector()
    collector.on_frame(TOLD, msgspec.json.encode(fact))
    facts, _blobs = collector.finish(INDEX)

    assert facts == ([fact] if np.isfinite(seconds) else [])


def evidence_with(facts: list[Fact]) -> Evidence:
    return Evidence(
        schema="nbassay/evidence/1",
        notebook="sha256:0",
        key="k",
        data="d",
        sandbox="none",
        is_isolated=False,
        attempt=0,
        limits={"cell_s": 1.0},
        ending=Ending(reason="finished", message=None, seconds=1.0, peak_memory_bytes=1),
        facts=facts,
        refused=[],
    )


def test_evidence_is_kept_and_read_again(tmp_path: Path) -> None:
    """
    The folder holds readable JSON and arrays, and writing again replaces it whole.
    """
    blobs = {"a" * 64: np.arange(5, dtype=np.int32)}
    write_evidence(tmp_path / "evidence", evidence_with([]), blobs)
    remark = RemarkFact(cell=0, topic="cut", text="…")
    write_evidence(tmp_path / "evidence", evidence_with([remark]), blobs)

    evidence, read = read_evidence(tmp_path / "evidence")

    assert evidence.facts == [remark]
    assert read["a" * 64].tolist() == [0, 1, 2, 3, 4]
    assert (
        json.loads((tmp_path / "evidence" / "evidence.json").read_text())["notebook"] == "sha256:0"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


@pytest.mark.parametrize("spoil", ["evidence.json", "arrays.safetensors"])
def test_spoiled_evidence_is_an_error(tmp_path: Path, spoil: str) -> None:
    """
    Evidence that is not whole is never half used.
    """
    write_evidence(tmp_path / "evidence", evidence_with([]), {})
    (tmp_path / "evidence" / spoil).write_bytes(gzip.compress(b"?"))

    with pytest.raises(EvidenceError, match="no evidence that can be read"):
        read_evidence(tmp_path / "evidence")


def test_evidence_that_lacks_its_arrays_is_an_error(tmp_path: Path) -> None:
    """
    Arrays on disk must be those that the facts name, of the kind that they name.
    """
    fact, blob = fact_of_rows(row_digests(ROWS, NONCE))
    collector = Collector()
    collector.on_frame(FACT, fact)
    collector.on_frame(BLOB, blob)
    facts, blobs = collector.finish(INDEX)
    (name,) = blobs
    odd = {"missing": {}, "of floats": {name: np.zeros(3, np.float32)}, "right": blobs}
    for what, arrays in odd.items():
        write_evidence(tmp_path / what, evidence_with(facts), arrays)

    assert read_evidence(tmp_path / "right")[0].facts == facts
    with pytest.raises(EvidenceError, match="no array"):
        read_evidence(tmp_path / "missing")
    with pytest.raises(EvidenceError, match="expected int32"):
        read_evidence(tmp_path / "of floats")


def test_rows_that_many_facts_name_are_found_once() -> None:
    """
    Facts cost little, so they must not make the grader look up the same rows thousands of times.
    """

    class Counting(RowIndex):
        calls = 0

        def positions(self, digests: np.ndarray) -> np.ndarray:
            self.calls += 1
            return super().positions(digests)

    index = Counting(row_digests(ROWS, NONCE))
    fact, blob = fact_of_rows(row_digests(ROWS, NONCE))
    collector = Collector()
    collector.on_frame(BLOB, blob)
    for _ in range(1000):
        collector.on_frame(FACT, fact)

    assert len(collector.finish(index)[0]) == 1000
    assert index.calls == 1


def a_fit(history: str) -> bytes:
    return (
        '{"type":"fit","cell":0,"model":0,"before":null,"state":null,"data":{"kind":"other",'
        '"x":null},"validation":null,"validation_split":0,"epochs_asked":1,"epochs_run":1,'
        f'"batch_size":null,"history":{history},"error":null}}'
    ).encode()


def test_numbers_in_facts_are_counted() -> None:
    """
    A number takes two bytes of the pipe and thirty of memory, so there is a bound of its own.
    """
    collector = Collector()
    for _ in range(3):
        collector.on_frame(FACT, a_fit(NUMBERS))

    assert len(collector.finish(INDEX)[0]) == 1
    assert collector.refused == ["more than 200000 numbers in facts"] * 2


NUMBERS = "{" + ",".join(f'"{name}":[{",".join("0" * 10_000)}]' for name in range(12)) + "}"
FLOODS: dict[str, tuple[bytes, int, int, Callable[[int], bytes]]] = {
    # name: kind, frames, MB they may take, payload of the n-th
    "lists in a fact": (FACT, 3, 80, lambda _: a_fit('{"a":[' + "[]," * 600_000 + "[]]}")),
    "facts": (TOLD, 25_000, 80, lambda _: b'{"type":"cell","index":1,"status":"ok","seconds":1}'),
    "blobs": (BLOB, 25_000, 80, lambda turn: blob_payload(np.array([turn]))),
    "empty outputs": (
        CELL,
        9,
        80,
        lambda turn: (
            b'{"index":%d,"outputs":[' % turn + b'{"output_type":"error"},' * 80_000 + b"]}"
        ).replace(b",]", b"]"),
    ),
    "lists in outputs": (
        CELL,
        7,
        80,
        lambda turn: (
            (b'{"index":%d,"outputs":[{"output_type":"error","a":[' % turn + b"[]," * 900_000)
            + b"[]]}]}"
        ),
    ),
    "texts in outputs": (
        CELL,
        9,
        80,
        lambda turn: (
            b'{"index":%d,"outputs":[{"output_type":"error","traceback":[' % turn
            + b'"ab",' * 500_000
            + b'""]}]}'
        ),
    ),
}


@pytest.mark.parametrize(("kind", "frames", "most_mb", "payload"), FLOODS.values(), ids=FLOODS)
def test_floods_take_little_memory(
    kind: bytes, frames: int, most_mb: int, payload: Callable[[int], bytes]
) -> None:
    """
    Whatever comes through the pipe, what is made of it stays small.
    """
    collector = Collector()
    tracemalloc.start()
    try:
        for turn in range(frames):
            collector.on_frame(kind, payload(turn))
        collector.finish(INDEX)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < most_mb << 20
    assert len(collector.refused) <= 100


TEXTS = {
    FACT: b'{"type":"remark","cell":0,"topic":"cut","text":"%s"}',
    TOLD: b'{"type":"cell","index":0,"status":"ok","seconds":1.0,"error_name":"%s"}',
    BLOB: b'\x00\x40{"dtype":"%s","shape":[]}',
    CELL: b'{"index":0,"outputs":[{"text":"%s"}]}',
}


@given(st.sampled_from(sorted(TEXTS)), st.binary(max_size=60))
def test_no_bytes_within_a_text_break_the_decoder(kind: bytes, text: bytes) -> None:
    """
    Bytes of any kind where a text belongs are decoded or refused.
    """
    collector = Collector()
    collector.on_frame(kind, TEXTS[kind] % text)
    facts, _blobs = collector.finish(INDEX)

    assert len(facts) + len(collector.refused) + len(collector.cells) <= 1


READS_AT_ONCE = """
import sys, threading
from pathlib import Path
sys.setswitchinterval(1e-6)
from nbassay.evidence import read_evidence
folder = Path(sys.argv[1])
together = threading.Barrier(4)

def read():
    together.wait()
    read_evidence(folder)

threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_several_threads_may_be_the_first_to_read(tmp_path: Path) -> None:
    """
    A class that is resumed reads its evidence in several threads at once, and none crashes.
    """
    write_evidence(
        tmp_path / "evidence", evidence_with([CellFact(index=0, status="ok", seconds=1)]), {}
    )

    # Each process has one first time; without decoders made before, now and then one crashes.
    codes = {
        subprocess.run(
            [sys.executable, "-c", READS_AT_ONCE, tmp_path / "evidence"], check=False
        ).returncode
        for _ in range(12)
    }

    assert codes == {0}
