"""Finding a class's notebooks: folders, single notebooks, zip archives of a learning platform."""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from nbassay.errors import NotebookError, SubmissionError
from nbassay.files import is_graded_class
from nbassay.notebook_file import MOST_BYTES

MOST_FILES = 100_000
SHOWN_NAMES = 3
PACKED = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
"""Ways of packing that are read; of the others a few bytes may unpack to any number at once."""
BROKEN_ZIP = (
    OSError,
    RuntimeError,  # encrypted; NotImplementedError is one
    ValueError,  # a name that is no UTF-8, a place before the file's beginning
    EOFError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `zipfile` raises at broken archives; only `BadZipFile` is documented."""
OURS = {
    *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT),
}
"""Errors of this machine that say nothing of the file."""
TOO_LARGE = f"larger than {MOST_BYTES >> 20} MB; clear the outputs and save again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """One learner's file, read when its turn comes: a class need not fit into memory."""

    learner: str
    """Safe and unique: letters, digits, ``-``, ``_`` and ``.`` only; names the report's folder."""
    file: str
    """Where it came from, as the instructor named it; for people, never used as a path."""
    read: Callable[[], bytes]
    """
    Gives the file's bytes, or raises `NotebookError` with the reason; `OSError` where this machine
    failed and another try may not.
    """
    notes: tuple[str, ...] = ()
    """What an instructor should know before trusting the mark."""


@dataclasses.dataclass(frozen=True)
class _Found:
    owner: str
    file: str
    read: Callable[[], bytes]


def find_submissions(paths: Iterable[Path]) -> list[Submission]:
    """
    Find every notebook below *paths*, sorted by learner.

    A notebook directly in a given folder belongs to the learner named by its stem; one deeper
    down to the learner named by the first folder below the given one. Graded classes below are
    left out.

    Raises:
        SubmissionError: A path does not exist, or there is no notebook at all.
    """
    paths = list(paths)
    found: list[_Found] = []
    for path in paths:
        if path.is_dir():
            found += _in_folder(path)
        elif path.suffix.lower() == ".zip" and path.is_file():
            found += _in_archive(path)
        elif path.exists() or path.is_symlink():
            found.append(_Found(path.stem, str(path), functools.partial(_read_file, path)))
        else:
            raise SubmissionError(
                f"{path}: no such file or folder; expected a notebook, a folder or a zip"
            )
    if not found:
        raise SubmissionError(
            f"no notebook (*.ipynb) in {', '.join(str(path) for path in paths)}; "
            "give a folder that holds one notebook a learner, or one folder a learner"
        )
    return _name(found)


def _in_folder(folder: Path) -> list[_Found]:
    found = [
        _Found(
            path.stem if path.parent == folder else path.relative_to(folder).parts[0],
            str(path.relative_to(folder)),
            functools.partial(_read_file, path, inside=folder),
        )
        for path in _notebooks(folder)
    ]
    owners = {item.owner for item in found}
    if found and all(os.sep in item.file for item in found):  # one folder a learner
        found += [
            _Found(path.name, path.name, functools.partial(_miss_notebook, path))
            for path in sorted(folder.iterdir())
            if path.is_dir()
            and not _is_hidden(path.name)
            and path.name not in owners
            and not is_graded_class(path)
        ]
    return found


def _notebooks(folder: Path) -> Iterator[Path]:
    count = 0
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not _is_hidden(name) and not is_graded_class(Path(top, name))
        )
        named = [name for name in (*files, *folders) if name.lower().endswith(".ipynb")]
        for name in sorted(named):
            if not _is_hidden(name) and count < MOST_FILES:
                count += 1
                yield Path(top, name)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _read_file(path: Path, inside: Path | None = None) -> bytes:
    try:
        is_link = inside is not None and path.is_symlink()
        if is_link and not path.resolve(strict=True).is_relative_to((inside or path).resolve()):
            raise NotebookError("a link that leaves the class's folder; not followed")
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise NotebookError("a folder named like a notebook")
        if not stat.S_ISREG(status.st_mode):
            raise NotebookError("not a file but a pipe or a device; not read")
        if status.st_size > MOST_BYTES:
            raise NotebookError(TOO_LARGE)
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)  # it may grow
    except RuntimeError:  # Python 3.12 and earlier tell a circle of links like this
        raise NotebookError("the file cannot be read: a link that leads to itself") from None
    except OSError as error:
        if error.errno in OURS:
            raise
        raise NotebookError(f"the file cannot be read: {error.strerror}") from error


def _miss_notebook(folder: Path) -> bytes:
    names = sorted(_readable(path.name) for path in folder.iterdir())
    told = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
    raise NotebookError(f"no notebook (*.ipynb) in this folder (found: {told or 'nothing'})")


def _in_archive(path: Path) -> Iterator[_Found]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()[:MOST_FILES]
    except BROKEN_ZIP as error:
        raise SubmissionError(f"{path}: not a zip archive that can be read: {error}") from error
    for entry in entries:
        inner = PurePosixPath(entry.filename)
        is_folder = entry.filename.endswith("/")  # ZipInfo.is_dir() fails at an empty name
        is_notebook = not is_folder and inner.suffix.lower() == ".ipynb"
        if is_notebook and not any(_is_hidden(part) for part in inner.parts if part != ".."):
            owner = inner.stem if len(inner.parts) == 1 else inner.parts[0]
            label = f"{path.name}/{entry.filename}"
            yield _Found(owner, label, functools.partial(_read_member, path, entry))


def _read_member(path: Path, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > MOST_BYTES:
        raise NotebookError(TOO_LARGE)
    if entry.compress_type not in PACKED:
        raise NotebookError(
            f"packed into the zip by method {entry.compress_type}; expected one of "
            f"{', '.join(PACKED.values())}: pack it again, or hand in the file itself"
        )
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            return file.read(MOST_BYTES + 1)
    except BROKEN_ZIP as error:
        raise NotebookError(f"cannot be unpacked: {error}") from error


def _name(found: list[_Found]) -> list[Submission]:
    """Give each notebook a learner id; a second notebook of one learner gets its own."""
    by_owner = Counter(item.owner for item in found)
    named: dict[str, Submission] = {}
    for item in sorted(found, key=lambda item: (item.owner, item.file)):
        notes = []
        wanted = item.owner
        if by_owner[item.owner] > 1:
            stem = PurePosixPath(item.file).stem
            wanted = f"{item.owner}--{stem}" if stem != item.owner else item.owner
            others = [
                other.file for other in found if other.owner == item.owner and other is not item
            ]
            notes.append(
                f"{item.owner} handed in {by_owner[item.owner]} notebooks; each is graded alone "
                f"(also: {', '.join(sorted(others)[:5])})"
            )
        slug = slug_of(wanted)
        turn = 2
        while slug.lower() in {taken.lower() for taken in named}:
            slug = f"{slug_of(wanted)[:80]}-{turn}"
            turn += 1
        named[slug] = Submission(
            learner=slug,
            file=_readable(item.file),
            read=item.read,
            notes=tuple(map(_readable, notes)),
        )
    return [named[slug] for slug in sorted(named)]


def _readable(name: str) -> str:
    """A file's name may be no text, as after unpacking a zip of another system."""
    return name.encode(errors="replace").decode()


def slug_of(name: str) -> str:
    """A safe folder name for *name*: ASCII letters, digits, ``-``, ``_``, ``.``; never empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:80].rstrip("-._")
    reserved = {"con", "prn", "aux", "nul"}
    lost = len(re.findall(r"\w", name)) - len(re.findall(r"\w", plain))
    if not slug or slug.lower() in reserved or not re.search(r"[A-Za-z0-9]", slug):
        return f"learner-{_short_digest(name)}"
    if lost > 0 and lost * 2 >= len(re.findall(r"\w", name)):  # mostly letters that ASCII lacks
        return f"{slug}-{_short_digest(name)}"
    return slug


def _short_digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
