"""What the probe says of arrays: the same rows are the same whatever scale and type they are in."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nbassay.inside.arrays import (
    CHUNK_ROWS,
    SAMPLE_ROWS,
    Reader,
    Recognition,
    read_idx,
    read_labels,
    row_digests,
    row_profiles,
)
from nbassay.inside.batches import Stream
from nbassay.inside.channel import Channel
from nbassay.records import Array

NONCE = bytes(range(32))
WIDTH = 12

LEVELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(WIDTH)))

IMAGES = np.random.default_rng(1).integers(0, 256, (200, WIDTH), dtype=np.uint8)
"""Rows that reach both ends of the scale, as a set of real images does."""

SAME = {
    "as they are": lambda x: x,
    "float16": lambda x: x.astype("float16"),
    "float16, scaled": lambda x: x.astype("float16") / 255,
    "float32, scaled": lambda x: x.astype("float32") / 255,
    "float64, scaled": lambda x: x / 255,
    "by a factor": lambda x: x * (1 / 255),
    "-1 to 1": lambda x: x.astype("float32") / 127.5 - 1,
    "divided by 256": lambda x: x / 256,
    "scaled twice": lambda x: x / 255 / 255,
    "standardised": lambda x: (x - x.mean()) / x.std(),
    "Fortran order": lambda x: np.asfortranarray(x / 255),
    "whole numbers": lambda x: x.astype("int64"),
    "3 × 4": lambda x: x.reshape(len(x), 3, 4),
}
SCRAMBLED = {
    "transposed": lambda x: x.T.reshape(len(x), WIDTH),
    "reshaped wrongly": lambda x: x.reshape(WIDTH, len(x)).T,
    "other order": lambda x: x[:, ::-1],
    "one level up": lambda x: np.where(x < 255, x + 1, x),
}


NOWHERE = Channel(os.open(os.devnull, os.O_WRONLY), budget_bytes=1 << 20)


def reader() -> Reader:
    """A reader of rows of twelve bytes whose facts nobody hears."""
    return Reader(Recognition(nonce=NONCE, widths=(WIDTH,), levels=255), NOWHERE)


def digests_of(array: np.ndarray) -> np.ndarray:
    table = reader().as_table(array)
    assert table is not None
    found = reader().digest(table)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_scale_and_type_leave_rows_the_same(change) -> None:
    """
    Whatever number type and scale the images are brought to, their rows keep their digests.
    """
    assert (digests_of(change(IMAGES)) == row_digests(IMAGES, NONCE)).all()


@pytest.mark.parametrize("change", SCRAMBLED.values(), ids=SCRAMBLED)
def test_scrambled_rows_are_others(change) -> None:
    """
    Pixels that moved between or within rows, or changed, give rows that are none of the images.
    """
    found = digests_of(change(IMAGES))

    assert not np.isin(found, row_digests(IMAGES, NONCE)).any()


MANY = np.random.default_rng(2).integers(0, 256, (2 * CHUNK_ROWS + 7, WIDTH), dtype=np.uint8)


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_rows_that_were_read_before_are_the_same(change) -> None:
    """
    A reader that has seen the images knows them again in any form, and one that was changed among
    them as another.
    """
    one = reader()
    one.digest(MANY)
    other = MANY.copy()
    other[CHUNK_ROWS + 3, 5] ^= 16
    found = []
    for images in (MANY, other):
        table = one.as_table(change(images))
        assert table is not None
        digests = one.digest(table)
        assert digests is not None
        found.append(digests[0])

    assert (found[0] == row_digests(MANY, NONCE)).all()
    assert np.flatnonzero(found[0] != found[1]).tolist() == [CHUNK_ROWS + 3]


def test_rows_with_the_check_sum_of_others_are_others() -> None:
    """
    Who makes rows with the CRC of rows that were read, which takes no skill, is not taken in.
    """
    one = reader()
    known = one.read(MANY)
    forged = MANY.copy()
    forged[:, 0] ^= 1
    whole = forged.reshape(-1)
    whole[-4:] = np.frombuffer(_patch(whole[:-4].tobytes(), zlib.crc32(MANY.tobytes())), np.uint8)
    assert zlib.crc32(forged.tobytes()) == zlib.crc32(MANY.tobytes())

    read = one.read(forged)

    assert read.rows is not None
    assert known.rows is not None
    assert read.rows.digests != known.rows.digests


def _patch(data: bytes, crc: int) -> bytes:
    """The four bytes that give *data* and them this CRC-32."""
    table = [zlib.crc32(bytes([byte ^ 0xFF])) ^ 0xFF000000 for byte in range(256)]
    tops = {entry >> 24: byte for byte, entry in enumerate(table)}
    wanted, chosen = crc ^ 0xFFFFFFFF, []
    for _ in range(4):
        byte = tops[wanted >> 24]
        chosen.append(byte)
        wanted = ((wanted ^ table[byte]) << 8) & 0xFFFFFFFF
    state, patch = zlib.crc32(data) ^ 0xFFFFFFFF, []
    for byte in reversed(chosen):
        patch.append((state ^ byte) & 0xFF)
        state = (state >> 8) ^ table[byte]
    return bytes(patch)


@given(LEVELS, st.sampled_from(["float16", "float32", "float64"]))
def test_few_rows_are_known_after_their_set(rows: np.ndarray, kind: str) -> None:
    """
    A few scaled rows, asked about one by one, are recognised once their set was seen.
    """
    images = reader()
    images.digest(IMAGES)
    images.digest((IMAGES / 255).astype(kind))

    rows[:, :2] = 0, 100  # empty paper and some grey, as on every real image
    for row in rows:
        found = images.digest((row[None] / 255).astype(kind))
        assert found is not None
        assert (found[0] == row_digests(row[None], NONCE)).all()


@pytest.mark.parametrize(
    "pixels",
    [
        [0, 20, 255, 250, 0, 0, 3, 255, 254, 60, 0, 200],
        [0, 0, 255, 255, 0, 0, 0, 255, 255, 0, 0, 0],
    ],
    ids=["nearly no grey", "no grey"],
)
def test_crisp_image_is_not_taken_for_zeros_and_ones(pixels: list[int]) -> None:
    """
    An image on 0..1 with no grey keeps its digest, though 0 and 1 lie near all its pixels.
    """
    images = reader()
    images.digest(IMAGES)
    crisp = np.array([pixels], np.uint8)

    found = images.digest(crisp.astype("float32") / 255)

    assert found is not None
    assert (found[0] == row_digests(crisp, NONCE)).all()


@given(LEVELS, st.permutations(range(WIDTH)))
def test_profiles_do_not_depend_on_the_order(rows: np.ndarray, order: list[int]) -> None:
    """
    The profile of a row is that of the same pixels in any other order.
    """
    assert (row_profiles(rows) == row_profiles(rows[:, order])).all()


@given(LEVELS, LEVELS)
def test_digests_tell_rows_apart(left: np.ndarray, right: np.ndarray) -> None:
    """
    Two rows have the same digest if and only if they are the same row.
    """
    equal = (left[:, None] == right[None]).all(axis=2)
    digests = row_digests(left, NONCE)[:, None] == row_digests(right, NONCE)[None]

    assert (equal == digests).all()


def test_digests_depend_on_the_run() -> None:
    """
    Another run's nonce gives other digests, so that none can be known beforehand.
    """
    assert not (row_digests(IMAGES, NONCE) == row_digests(IMAGES, bytes(32))).any()


def test_noise_has_no_rows() -> None:
    """
    Values on no one scale are no rows at all.
    """
    noise = np.random.default_rng(0).random((50, WIDTH))

    assert reader().read(noise).rows is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_labels_in_every_form_are_the_same(labels: list[int]) -> None:
    """
    Plain, as a column, as floats, one-hot: the labels read are those that were meant.
    """
    plain = np.array(labels)
    for array in (plain, plain[:, None], plain.astype("float32"), np.eye(10)[plain]):
        read = read_labels(array)
        assert read is not None
        assert read[2].tolist() == labels


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.5, 1.0]),
        np.array([-1, 2]),
        np.array([np.nan]),
        np.ones((3, 4)),
        np.vstack([np.eye(10)[[3] * SAMPLE_ROWS], np.ones((1, 10))]),
        np.array([]),
    ],
    ids=["halves", "negative", "not a number", "two classes at once", "two in the last", "none"],
)
def test_other_numbers_are_no_labels(array: np.ndarray) -> None:
    """
    Fractions, negative numbers and rows with several ones are not taken for labels.
    """
    assert read_labels(array) is None


def test_a_stream_is_the_array_it_came_from() -> None:
    """
    Batches in any order, seen twice, tell the same rows once each, with their labels.
    """
    stream = Stream(reader(), NOWHERE)
    labels = np.arange(len(IMAGES)) % 10
    for epoch in range(2):
        for part in np.array_split(np.random.default_rng(epoch).permutation(len(IMAGES)), 7):
            stream.add(IMAGES[part] / np.float32(255), labels[part])
    data = stream.data("generator")

    assert data.x is not None
    assert data.x.rows is not None
    assert data.y is not None
    assert data.x.shape == [200, WIDTH]
    assert data.x.rows.count == 400
    assert data.y.shape == [200]


def test_an_array_says_where_it_lies() -> None:
    """
    Shape, type and range of an array are told as they are.
    """
    told = reader().read(IMAGES.astype("float32") / 255, name="x_train")

    assert isinstance(told, Array)
    assert (told.shape, told.dtype, told.low, told.high, told.name) == (
        [200, WIDTH],
        "float32",
        0.0,
        1.0,
        "x_train",
    )


def test_idx_files_are_read_as_they_lie(tmp_path: Path) -> None:
    """
    The probe's own reader of IDX files gives shape and bytes of the file, and a copy to write to.
    """
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "two-images"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 4) + image.tobytes())

    read = read_idx(path)

    assert (read == image).all()
    assert read.flags.writeable
