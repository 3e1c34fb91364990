"""Finding a class's notebooks: folders, single notebooks, zip archives of a learning platform."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from nbassay.errors import SubmissionError
from nbassay.notebook import MOST_BYTES

MOST_FILES = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submission:
    """One learner's file."""

    learner: str
    """Safe and unique: letters, digits, ``-``, ``_`` and ``.`` only; names the report's folder."""
    file: str
    """Where it came from, as the instructor named it; for people, never used as a path."""
    raw: bytes | None
    """The file's bytes; None when it could not be read."""
    notes: tuple[str, ...] = ()
    """What an instructor should know before trusting the mark."""


@dataclasses.dataclass(frozen=True)
class _Found:
    owner: str
    file: str
    raw: bytes | None
    note: str | None


def find_submissions(paths: Iterable[Path]) -> list[Submission]:
    """
    Read every notebook below *paths*, sorted by learner.

    A notebook directly in a given folder belongs to the learner named by its stem; one deeper
    down to the learner named by the first folder below the given one.

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
        elif path.is_file():
            found.append(_read(path.stem, path, path.name))
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


def _in_folder(folder: Path) -> Iterator[_Found]:
    notebooks = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".ipynb"
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
    )
    for path in notebooks[:MOST_FILES]:
        relative = path.relative_to(folder)
        owner = path.stem if len(relative.parts) == 1 else relative.parts[0]
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            yield _Found(
                owner, str(relative), None, "a link that leaves the class's folder; not followed"
            )
        elif path.is_dir():
            yield _Found(owner, str(relative), None, "a folder named like a notebook")
        else:
            yield _read(owner, path, str(relative))


def _read(owner: str, path: Path, label: str) -> _Found:
    try:
        if path.stat().st_size > MOST_BYTES:
            return _Found(owner, label, None, f"larger than {MOST_BYTES >> 20} MB")
        return _Found(owner, label, path.read_bytes(), None)
    except OSError as error:
        return _Found(owner, label, None, f"the file cannot be read: {error.strerror}")


def _in_archive(path: Path) -> Iterator[_Found]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist()[:MOST_FILES]:
                inner = PurePosixPath(entry.filename)
                if (
                    entry.is_dir()
                    or inner.suffix.lower() != ".ipynb"
                    or any(part.startswith((".", "__MACOSX")) for part in inner.parts)
                ):
                    continue
                owner = inner.stem if len(inner.parts) == 1 else inner.parts[0]
                label = f"{path.name}/{entry.filename}"
                if entry.file_size > MOST_BYTES:
                    yield _Found(owner, label, None, f"larger than {MOST_BYTES >> 20} MB")
                    continue
                try:
                    with archive.open(entry) as file:
                        yield _Found(owner, label, file.read(MOST_BYTES + 1), None)
                except (OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError) as error:
                    yield _Found(owner, label, None, f"cannot be unpacked: {error}")
    except (OSError, zipfile.BadZipFile) as error:
        raise SubmissionError(f"{path}: not a zip archive that can be read: {error}") from error


def _name(found: list[_Found]) -> list[Submission]:
    """Give each notebook a learner id; a second notebook of one learner gets its own."""
    by_owner = Counter(item.owner for item in found)
    named: dict[str, Submission] = {}
    for item in sorted(found, key=lambda item: (item.owner, item.file)):
        notes = [item.note] if item.note else []
        wanted = item.owner
        if by_owner[item.owner] > 1:
            wanted = f"{item.owner}--{PurePosixPath(item.file).stem}"
            others = [
                other.file for other in found if other.owner == item.owner and other is not item
            ]
            notes.append(
                f"{item.owner} handed in {by_owner[item.owner]} notebooks; each is graded "
                f"(also: {', '.join(sorted(others)[:5])})"
            )
        slug = slug_of(wanted)
        if slug in named:
            slug = (
                f"{slug[:60]}-{hashlib.sha256(item.file.encode(errors='replace')).hexdigest()[:8]}"
            )
        named[slug] = Submission(learner=slug, file=item.file, raw=item.raw, notes=tuple(notes))
    return [named[slug] for slug in sorted(named)]


def slug_of(name: str) -> str:
    """A safe folder name for *name*: ASCII letters, digits, ``-``, ``_``, ``.``; never empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:80].rstrip("-._")
    reserved = {"con", "prn", "aux", "nul"}
    if not slug or slug.lower() in reserved or len(re.sub(r"[^A-Za-z0-9]", "", slug)) < 1:
        return f"learner-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    return slug
