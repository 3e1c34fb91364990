"""Hostile bytes made from right ones: strategies for the fuzzed decoders."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from nbassay.inside.channel import blob_payload

FUZZ_S = 60 * float(os.environ.get("FUZZ_MINUTES", "10"))
"""Seconds a decoder gets under the profile ``long``."""
IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

ODD_TEXTS = (
    "",
    "\ud800",
    "\0",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\x1b[31m",
    "\u202e",
    "é😀",
    "a" * 5000,
)
ODD_VALUES = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**31, 2**53, 2**63, 2**64, 10**30, 1e308, -0.0, 5e-324])
    | st.floats()
    | st.sampled_from(ODD_TEXTS)
    | st.text(max_size=10)
)
ODD_JSON = st.recursive(
    ODD_VALUES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "source"]), inner)
    ),
    max_leaves=6,
)
ODD_BYTES = st.binary(max_size=8) | st.sampled_from(
    [b"\0" * 9, b"\xff", b"\xed\xa0\x80", b"[" * 3000, b'"', b"\\ud800", b"NaN", b"9" * 5000, b"{}"]
)


def fuzzed(
    hostile: st.SearchStrategy[Any],
) -> Callable[[Callable[[Any], None]], Callable[[], None]]:
    """
    Try a test on what *hostile* gives: once quickly, or again and again for `FUZZ_S` seconds.

    Hypothesis itself counts examples, not time; every call of it begins with another seed.
    """

    def decorate(body: Callable[[Any], None]) -> Callable[[], None]:
        once = given(hostile)(body)

        # Not by `functools.wraps`: pytest would take the argument for a fixture.
        def test() -> None:
            ends = time.monotonic() + FUZZ_S * IS_LONG
            once()
            while time.monotonic() < ends:
                once()

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        return test

    return decorate


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Right bytes with a few places overwritten, cut, doubled or put elsewhere."""
    raw = draw(originals)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 12) | st.integers(0, len(raw))))
        how = draw(st.sampled_from(["cut", "end", "put", "flip", "double", "move"]))
        part = raw[start:end]
        if how == "cut":
            raw = raw[:start] + raw[end:]
        elif how == "end":
            raw = raw[:start]
        elif how == "put":
            raw = raw[:start] + draw(ODD_BYTES) + raw[end:]
        elif how == "flip" and start < len(raw):
            raw = raw[:start] + bytes([raw[start] ^ draw(st.integers(1, 255))]) + raw[start + 1 :]
        elif how == "double":
            raw = raw[:end] + part + raw[end:]
        else:
            raw = raw[:start] + raw[end:] + part
    return raw


# ---------------------------------------------------------------- facts


ARRAYS = (
    np.arange(12, dtype=np.uint64),
    np.arange(6, dtype=np.int64),
    np.ones((3, 2), np.float32),
    np.array([0.5, np.nan], np.float32),
    np.zeros((0, 7), np.int32),
    np.float64(1.5).reshape(()),
)
BLOBS = [blob_payload(array) for array in ARRAYS]
NAMES = [hashlib.sha256(blob).hexdigest() for blob in BLOBS]
FITTING = {"digests": 0, "values": 1, "classes": 1, "kernel": 2}
"""Field of a record → the blob that it may name."""


def values_of(kind: Any, name: str = "") -> st.SearchStrategy[Any]:
    """
    JSON values of a type of `nbassay.records`.

    Args:
        kind: From ``msgspec.inspect.type_info``.
        name: Of the field.
    """
    if isinstance(kind, inspect.UnionType):
        return st.one_of([values_of(one, name) for one in kind.types])
    if isinstance(kind, inspect.StructType):
        fields = {one.encode_name: values_of(one.type, one.encode_name) for one in kind.fields}
        optional = {one.encode_name for one in kind.fields if not one.required}
        tag = {} if kind.tag is None else {kind.tag_field: st.just(kind.tag)}
        return st.fixed_dictionaries(
            {**tag, **{name: one for name, one in fields.items() if name not in optional}},
            optional={name: one for name, one in fields.items() if name in optional},
        )
    if isinstance(kind, inspect.ListType):
        return st.lists(values_of(kind.item_type), max_size=min(4, kind.max_length or 4))
    if isinstance(kind, inspect.DictType):
        return st.dictionaries(st.text(max_size=9), values_of(kind.value_type), max_size=3)
    if isinstance(kind, inspect.LiteralType):
        return st.sampled_from(sorted(kind.values))
    if isinstance(kind, inspect.StrType):
        right = NAMES[FITTING.get(name, 3)]
        return st.sampled_from([*[right] * 9, *NAMES, "0" * 64]) if kind.pattern else TEXTS
    if isinstance(kind, inspect.IntType):
        least = 0 if kind.ge is None else kind.ge
        return st.integers(least, least + 9) | st.integers(least, kind.le or 2**53)
    if isinstance(kind, inspect.FloatType):
        return st.floats(allow_nan=False, allow_infinity=False)
    if isinstance(kind, inspect.BoolType):
        return st.booleans()
    assert isinstance(kind, inspect.NoneType), kind
    return st.none()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@st.composite
def spoiled(draw: st.DrawFn, originals: st.SearchStrategy[Any]) -> Any:
    """A right JSON value with one place in it replaced by something odd."""
    return _spoil(draw, draw(originals))


def _spoil(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 4)) == 0:
        return draw(ODD_JSON)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    copy = value.copy()
    copy[key] = _spoil(draw, value[key])
    return copy


def facts(kind: Any) -> st.SearchStrategy[bytes]:
    """JSON of facts: right ones, and ones with a place or a few bytes spoiled."""
    right = values_of(inspect.type_info(kind))
    return right.map(as_json) | spoiled(right).map(as_json) | mutated(right.map(as_json))


def as_json(value: Any) -> bytes:
    """JSON as a careless program writes it: half characters and NaN as they are."""

    return json.dumps(value).encode()


# ---------------------------------------------------------------- pictures


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    """PNG files with right checksums and odd content: sizes that lie, text, animation."""
    width, height = (draw(st.sampled_from([1, 3, 0, 70_000, 2**31 - 1])) for _ in range(2))
    depth, colour = (
        draw(st.sampled_from([1, 2, 8, 16, 3])),
        draw(st.sampled_from([0, 2, 3, 4, 6, 9])),
    )
    header = struct.pack("!IIBBBBB", width, height, depth, colour, 0, 0, draw(st.integers(0, 1)))
    chunks = [(b"IHDR", header)]
    extra = st.tuples(
        st.sampled_from(
            b"tEXt zTXt iTXt iCCP PLTE tRNS acTL fcTL fdAT eXIf pHYs gAMA cHRM sRGB IHDR".split()
        ),
        st.binary(max_size=40) | st.just(b"k\0\0" + zlib.compress(b"a" * 9000)),
    )
    chunks += draw(st.lists(extra, max_size=3))
    chunks.append((b"IDAT", draw(st.binary(max_size=30) | st.just(zlib.compress(b"\0" * 64)))))
    chunks += draw(st.lists(extra, max_size=2))
    chunks.append((b"IEND", b""))
    body = b"".join(
        struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
