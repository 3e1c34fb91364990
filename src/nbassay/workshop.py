"""Reading ``workshop.toml``: what a workshop is made of, checked before anything runs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from nbassay.errors import DataError, ManifestError
from nbassay.sandbox import Limits

MANIFEST = "workshop.toml"

Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(gt=0)]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strict part of the manifest: a misspelt key is an error, not a default."""


class Step(_Part, frozen=True, kw_only=True):
    """A Task of the lab page."""

    number: int
    title: str


class Tolerance(_Part, frozen=True, kw_only=True):
    """A number that a check compares with, and why it is that number."""

    value: float
    reason: str


class Bound(_Part, frozen=True, kw_only=True):
    """An accuracy that the lab promises; calibration may lower it, never raise it."""

    nominal: Annotated[float, Meta(ge=0, le=1)]
    measure: str


class DataFile(_Part, frozen=True, kw_only=True):
    """One data file of the lab, pinned."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Of the file as it lies there (gzip)."""


class DataSet(_Part, frozen=True, kw_only=True):
    """Rows and their labels, aligned, by file name."""

    features: str
    labels: str


class DataPart(_Part, frozen=True, kw_only=True):
    """What the lab's data are."""

    levels: Annotated[int, Meta(ge=1, le=65535)]
    """Largest level of a value: 255 for 8-bit pixels."""
    classes: Annotated[int, Meta(ge=2, le=1000)]
    files: dict[str, DataFile]
    """Name of the unpacked file → where its gzip lies."""
    sets: dict[str, DataSet]
    loaders: dict[str, list[list[str]]] = {}
    """
    Dotted name of a function that would fetch the data from the network → the files that answer it
    inside the box, in groups: one tuple of arrays a group.
    """


class LimitsPart(_Part, frozen=True, kw_only=True):
    """What one notebook may use (see `nbassay.sandbox.Limits`)."""

    cell_s: Positive = Limits.cell_s
    notebook_s: Positive = Limits.notebook_s
    cpu_s: Positive = Limits.cpu_s
    memory_mb: PositiveInt = Limits.memory_mb
    processes: PositiveInt = Limits.processes
    file_mb: PositiveInt = Limits.file_mb
    disk_mb: PositiveInt = Limits.disk_mb
    output_mb: Positive = Limits.output_mb
    evidence_mb: PositiveInt = Limits.evidence_mb


class Control(_Part, frozen=True, kw_only=True):
    """A notebook graded beside every class, whose outcome is known."""

    name: str
    notebook: str
    score: float | None = None
    """The mark it must earn."""
    fails: list[str] = []
    """The checks it must fail."""


class Manifest(_Part, frozen=True, kw_only=True):
    """``workshop.toml``."""

    title: str
    lab: str
    reference: str
    """The right solution, a notebook; in a learner's kit the sheet that it got, ``….json``."""
    checks: str
    reports: str
    rubric: dict[str, Annotated[float, Meta(ge=0)]]
    """Check id → points."""
    steps: list[Step]
    data: DataPart
    calibration: str | None = None
    trust: str | None = None
    """How often right work failed when it was graded (see `nbassay.trust`); decides no mark."""
    misconceptions: str | None = None
    """Folder of known wrong ways, one file each (see `nbassay.misconceptions`)."""
    packages: list[str] = []
    """Whose versions the evidence tells."""
    data_folders: list[str] = []
    """Absolute folders inside the box, besides the working folder, that hold the data."""
    typed: str = ""
    """What ``input()`` returns to a notebook: nobody sits at the keyboard."""
    tolerances: dict[str, Tolerance] = {}
    bounds: dict[str, Bound] = {}
    limits: LimitsPart = LimitsPart()
    controls: list[Control] = []


class Workshop:
    """A workshop's folder and its manifest."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def limits(self) -> Limits:
        """The limits as a sandbox takes them."""
        return Limits(**msgspec.structs.asdict(self.manifest.limits))

    @property
    def max_score(self) -> float:
        """Sum of all points."""
        return float(sum(self.manifest.rubric.values()))

    @property
    def step_titles(self) -> dict[int, str]:
        """Step number → title."""
        return {step.number: step.title for step in self.manifest.steps}

    def path(self, relative: str) -> Path:
        """A path of the manifest, resolved."""
        return self.folder / relative

    def packed_name(self, file: str) -> str:
        """What the data file *file* is called as it is kept: ``….gz``."""
        return file + self.path(self.manifest.data.files[file].path).resolve().suffix

    def digest(self) -> str:
        """``sha256:…`` over the manifest, the checks and the calibration: what decides marks."""
        hasher = hashlib.sha256((self.folder / MANIFEST).read_bytes())
        deciding = sorted(self.path(self.manifest.checks).glob("**/*.py"))
        if self.manifest.calibration and self.path(self.manifest.calibration).exists():
            deciding.append(self.path(self.manifest.calibration))
        for path in deciding:
            hasher.update(path.relative_to(self.folder).as_posix().encode() + b"\0")
            hasher.update(path.read_bytes())
        return f"sha256:{hasher.hexdigest()}"


def find_workshop(start: Path) -> Path:
    """
    The nearest folder with a ``workshop.toml``: *start* or one above it.

    Raises:
        ManifestError: There is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / MANIFEST).is_file():
            return folder
    raise ManifestError(
        f"no {MANIFEST} in {start} or any folder above it; "
        "give the workshop's folder with --workshop DIR"
    )


def read_workshop(folder: Path) -> Workshop:
    """
    Read and check a workshop's manifest.

    Raises:
        ManifestError: The file is missing, is not TOML, or a value in it cannot be used.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.toml.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: no such file; a workshop is a folder with a {MANIFEST} (--workshop DIR)"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"{path}: {error}") from error
    _check(path, folder, manifest)
    return Workshop(folder, manifest)


def _check(path: Path, folder: Path, manifest: Manifest) -> None:
    for what, relative in (
        ("checks", manifest.checks),
        ("reference", manifest.reference),
        *((("trust", manifest.trust),) if manifest.trust is not None else ()),
        *((f"controls.{control.name}", control.notebook) for control in manifest.controls),
    ):
        if not (folder / relative).exists():
            raise ManifestError(f"{path}: {what}: expected a path that exists, found {relative!r}")
    for name, data_set in manifest.data.sets.items():
        for file in (data_set.features, data_set.labels):
            if file not in manifest.data.files:
                raise ManifestError(
                    f"{path}: data.sets.{name}: expected one of {sorted(manifest.data.files)}, "
                    f"found {file!r}"
                )
    for function, groups in manifest.data.loaders.items():
        for file in (name for group in groups for name in group):
            if file not in manifest.data.files:
                raise ManifestError(
                    f"{path}: data.loaders.{function}: expected one of "
                    f"{sorted(manifest.data.files)}, found {file!r}"
                )
    for name in manifest.data.files:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ManifestError(f"{path}: data.files: expected plain file names, found {name!r}")
    for where in ("bounds",):
        for check_id in manifest.bounds:
            if check_id not in manifest.rubric:
                raise ManifestError(
                    f"{path}: {where}: expected a check id of the rubric, found {check_id!r}"
                )
    for control in manifest.controls:
        unknown = set(control.fails) - set(manifest.rubric)
        if unknown:
            raise ManifestError(
                f"{path}: controls.{control.name}: not in the rubric: {sorted(unknown)}"
            )


def read_pinned(workshop: Workshop, name: str) -> bytes:
    """
    The bytes of one data file as it lies in the workshop (gzip), if they are the pinned ones.

    Raises:
        DataError: The file is missing, or its digest is another.
    """
    entry = workshop.manifest.data.files[name]
    path = workshop.path(entry.path)
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: lab data cannot be read ({error.strerror}); restore it from the repository"
        ) from error
    found = hashlib.sha256(packed).hexdigest()
    if found != entry.sha256:
        raise DataError(
            f"{path}: lab data is not the pinned file: expected sha256 {entry.sha256}, "
            f"found {found} ({len(packed)} bytes); restore it from the repository"
        )
    return packed
