"""Other names for the classes, as they are laid into a box."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

import idx2numpy
import numpy as np
import pytest
from conftest import RIGHT_CELLS, ROOT, TINY, Nbassay, write_notebook

from nbassay.pristine import read_pristine
from nbassay.renaming import draw_names, lay_renamed_labels
from nbassay.workshop import read_workshop


def test_no_class_keeps_its_name() -> None:
    """
    Every class is renamed, whatever is drawn, and draws differ.
    """
    drawn = [draw_names(10) for _ in range(200)]

    assert all(sorted(names) == list(range(10)) for names in drawn)
    assert all(name != one for names in drawn for one, name in enumerate(names))
    assert len({tuple(names) for names in drawn}) > 100
    assert draw_names(2) == [1, 0]
    with pytest.raises(ValueError, match="1 classes"):
        draw_names(1)


@pytest.mark.parametrize("folder", [ROOT, TINY])
def test_label_files(folder: Path, tmp_path: Path) -> None:
    """
    Only label files are written, unpacked and packed, each the original but for the names.
    """
    workshop = read_workshop(folder)
    pristine = read_pristine(workshop)

    renaming = lay_renamed_labels(workshop, pristine, tmp_path)

    sets = workshop.manifest.data.sets
    labels = {part.labels for part in sets.values()}
    assert {path.name for path in tmp_path.iterdir()} == labels | {f"{one}.gz" for one in labels}
    for name, part in sets.items():
        original = gzip.decompress(
            workshop.path(workshop.manifest.data.files[part.labels].path).read_bytes()
        )
        raw = (tmp_path / part.labels).read_bytes()
        found = idx2numpy.convert_from_file(str(tmp_path / part.labels))
        assert raw == gzip.decompress((tmp_path / f"{part.labels}.gz").read_bytes())
        assert len(raw) == len(original)
        assert (np.asarray(renaming.names)[pristine[name].labels] == found).all()
        assert (found != pristine[name].labels).all()


@pytest.mark.kernel
def test_what_cannot_be_renamed(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    A workshop whose labels are no bytes refuses to challenge everybody before it runs anybody.
    """
    workshop = tmp_path / "tiny"
    shutil.copytree(TINY, workshop)
    packed = workshop / "lab" / "data" / "labels-idx1-ubyte.gz"
    narrow = packed.read_bytes()
    wide = np.frombuffer(gzip.decompress(narrow)[8:], np.uint8).astype(np.int32)
    packed.write_bytes(gzip.compress(idx2numpy.convert_to_string(wide)))
    manifest = workshop / "workshop.toml"
    pins = (hashlib.sha256(content).hexdigest() for content in (narrow, packed.read_bytes()))
    manifest.write_text(manifest.read_text("utf-8").replace(*pins), "utf-8")
    notebook = write_notebook(tmp_path / "ada.ipynb", *RIGHT_CELLS)

    done = nbassay("grade", notebook, "-o", tmp_path / "out", "--challenge", "all", cwd=workshop)

    assert done.returncode == 2
    assert "labels of tiles are no bytes" in done.stderr
    assert not (tmp_path / "out" / "learners").exists()
