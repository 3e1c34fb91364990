"""
The lines of a page, brought together as LiveLabs does before it reads any Markdown.

``[](include:NAME)`` is replaced by a file, ``[](var:NAME)`` by a value, and of each
``<if type="A B">…</if>`` only what is for the chosen variant stays. Includes and variables are
named by the workshop's ``manifest.json``. Every line remembers the file and line that it is of.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbassay.errors import AssayError

MOST_BYTES = 8 << 20
"""Of a page with its includes; the longest known ones have 200 kB."""
MOST_INCLUDES = 200
ROOTS = ("workshop.toml", ".git")
"""What the folder that a page may link into holds."""

_INCLUDE = re.compile(r"\[[^\]\n]*\]\(include:([^)\s]+)\)")
_VARIABLE = re.compile(r"\[[^\]\n]*\]\(var:([^)\s]+)\)")
_IF = re.compile(r"""<\s*if\s+type\s*=\s*["']([^"'>]*)["']\s*>|<\s*/\s*if\s*>""")
_REMOTE = re.compile(r"(?i)[a-z][a-z0-9+.-]*:|//")


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Where something stands."""

    index: int
    """Line of the page with all its includes, 0 first: places are in reading order."""
    line: int
    """Line of the file, 1 first."""
    file: str = "lab page"
    """The file, as it was named."""

    def __str__(self) -> str:
        return f"{self.file}: line {self.line}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flaw:
    """Something about a page's form that its author would want to know."""

    kind: str
    """A word for it: ``unclosed-fence``."""
    place: Place
    text: str
    """A sentence for the author."""


class PageError(AssayError):
    """A lab page cannot be read."""

    slug = "lab-page"

    def __init__(self, where: Place | Path | str, *, expected: str, found: str) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line as it is read, and where it comes from."""

    text: str
    line: int
    """1 first."""
    file: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A page's lines after includes, variables and variants."""

    lines: tuple[Line, ...]
    path: Path | None
    """The page; None of a text without a file."""
    root: Path | None
    """The folder that links may not leave."""
    variants: tuple[str, ...]
    """All that the page has text for, in the order in which they are named."""
    variant: str | None
    """The one that was read; None when the page has none."""
    flaws: tuple[Flaw, ...]

    def place(self, index: int) -> Place:
        """The place of a line."""
        if not self.lines:
            return Place(index=0, line=1, file=str(self.path or "lab page"))
        line = self.lines[min(index, len(self.lines) - 1)]
        return Place(index=index, line=line.line, file=line.file)

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(line.text for line in self.lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a LiveLabs ``manifest.json`` says of one page."""

    includes: Mapping[str, Path]
    variables: Mapping[str, str]
    types: tuple[str, ...]
    """Variants that the manifest shows; the first is the default."""


NO_MANIFEST = Manifest(includes={}, variables={}, types=())


def source_of(text: str, *, variant: str | None = None) -> Source:
    """The lines of a text without a file: what it includes is not known."""
    reader = _Reader(manifest=NO_MANIFEST, root=None)
    return reader.read(_lines(text, "lab page"), path=None, variant=variant)


def read_source(
    path: Path, *, variant: str | None = None, manifest_file: Path | None = None
) -> Source:
    """
    Read a page and what it includes.

    Args:
        path: The page.
        variant: Which ``<if type="…">`` to read; by default the manifest's, else the first that is
            named.
        manifest_file: The workshop's ``manifest.json``; by default the one near the page that
            lists it.

    Raises:
        PageError: It is no UTF-8 text, is too long, includes itself or leaves its folder.
    """
    root = _root(path)
    manifest = NO_MANIFEST
    found = manifest_file or _find_manifest(path, root)
    if found is not None:
        manifest = _read_manifest(found, path, root)
    reader = _Reader(manifest=manifest, root=root)
    return reader.read(
        _lines(read_text(path), str(path)), path=path, variant=variant, within=(path.resolve(),)
    )


def read_text(path: Path) -> str:
    """
    The text of a file, without byte order mark.

    Raises:
        PageError: It cannot be read, is too long, or no UTF-8 text.
    """
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise PageError(
            path, expected="a file that can be read", found=error.strerror or str(error)
        ) from error
    if size > MOST_BYTES:
        raise PageError(
            path, expected=f"a page of at most {MOST_BYTES >> 20} MB", found=f"{size >> 20} MB"
        )
    nul = raw.find(b"\0")
    if nul >= 0:
        raise PageError(
            f"{path}: line {raw[:nul].count(10) + 1}",
            expected="UTF-8 text",
            found="a NUL byte: this is a binary file, or UTF-16",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PageError(
            f"{path}: line {raw[: error.start].count(10) + 1}",
            expected="UTF-8 text",
            found=f"byte 0x{raw[error.start]:02x} at {error.start}; save the page as UTF-8",
        ) from None


def inside(root: Path | None, folder: Path, target: str, where: Place | str) -> Path:
    """
    The file that a relative link of a page in *folder* leads to.

    Raises:
        PageError: It leaves *root*.
    """
    try:
        goal = (folder / target).resolve()
    except (OSError, ValueError) as error:
        raise PageError(where, expected="a path", found=f"{target!r} ({error})") from None
    if root is not None and not goal.is_relative_to(root):
        raise PageError(
            where,
            expected=f"a link that stays inside {root.name or root}",
            found=f"{target!r}, which leaves it",
        )
    return goal


def is_remote(target: str) -> bool:
    """Whether a link leads to another machine, or is none of a file at all."""
    return bool(_REMOTE.match(target))


def _root(path: Path) -> Path:
    """The nearest folder above that is a workshop or a repository; else the page's own."""
    folder = path.resolve().parent
    for one in (folder, *folder.parents):
        if any((one / name).exists() for name in ROOTS):
            return one
    return folder


class _Reader:
    """Puts the lines of one page together."""

    def __init__(self, *, manifest: Manifest, root: Path | None) -> None:
        self._manifest = manifest
        self._root = root
        self._flaws: list[tuple[str, Line, str]] = []
        self._included = 0
        self._bytes = 0

    def read(
        self,
        lines: Sequence[Line],
        *,
        path: Path | None,
        variant: str | None,
        within: tuple[Path, ...] = (),
    ) -> Source:
        whole = list(self._with_includes(lines, path, within))
        whole = [self._with_variables(line) for line in whole]
        variants = tuple(
            dict.fromkeys(
                name
                for line in whole
                for match in _IF.finditer(line.text)
                if match[1] is not None
                for name in match[1].split()
            )
        )
        chosen = self._chosen(variants, variant, path)
        kept = list(self._of_variant(whole, chosen))
        source = Source(
            lines=tuple(kept),
            path=path,
            root=self._root,
            variants=variants,
            variant=chosen,
            flaws=(),
        )
        index = {(line.file, line.line): number for number, line in enumerate(kept)}
        flaws = tuple(
            Flaw(
                kind=kind,
                place=Place(index=index.get((at.file, at.line), 0), line=at.line, file=at.file),
                text=text,
            )
            for kind, at, text in self._flaws
        )
        return dataclasses.replace(source, flaws=flaws)

    def _chosen(
        self, variants: tuple[str, ...], asked: str | None, path: Path | None
    ) -> str | None:
        if asked is not None:
            known = tuple(dict.fromkeys([*variants, *self._manifest.types]))
            if asked not in known:
                raise PageError(
                    str(path or "lab page"),
                    expected=f"a variant that the page has ({', '.join(known) or 'it has none'})",
                    found=repr(asked),
                )
            return asked
        ours = [name for name in self._manifest.types if name in variants]
        return next(iter([*ours, *self._manifest.types, *variants]), None)

    def _with_includes(
        self, lines: Sequence[Line], path: Path | None, within: tuple[Path, ...]
    ) -> Iterator[Line]:
        for line in lines:
            last = 0
            pending = ""
            for match in _INCLUDE.finditer(line.text):
                included = self._included_lines(match[1], line, path, within)
                if included is None:
                    continue
                before = pending + line.text[last : match.start()]
                last, pending = match.end(), ""
                if before.strip():
                    yield dataclasses.replace(line, text=before)
                yield from included
            rest = line.text[last:]
            if rest.strip() or not last:
                yield dataclasses.replace(line, text=rest)

    def _included_lines(
        self, name: str, line: Line, path: Path | None, within: tuple[Path, ...]
    ) -> list[Line] | None:
        where = f"{line.file}: line {line.line}"
        file = self._manifest.includes.get(name)
        if file is None and path is not None and not is_remote(name):
            beside = inside(self._root, path.parent, name, where)
            file = beside if beside.is_file() else None
        if file is None or not file.is_file():
            self._flaws.append(
                (
                    "include-missing",
                    line,
                    f"nothing is known to include as {name!r}: neither the manifest nor the "
                    "page's folder has it, so what it says is missing here",
                )
            )
            return None
        real = inside(self._root, file.parent, file.name, where)
        if real in within:
            chain = " → ".join(one.name for one in (*within[within.index(real) :], real))
            raise PageError(where, expected="includes that end", found=f"a loop: {chain}")
        self._included += 1
        if self._included > MOST_INCLUDES:
            raise PageError(
                where, expected=f"at most {MOST_INCLUDES} includes", found="more than that"
            )
        text = read_text(real)
        self._bytes += len(text)
        if self._bytes > MOST_BYTES:
            raise PageError(
                where, expected=f"at most {MOST_BYTES >> 20} MB with includes", found="more"
            )
        return list(self._with_includes(_lines(text, str(file)), real, (*within, real)))

    def _with_variables(self, line: Line) -> Line:
        def value(match: re.Match[str]) -> str:
            found = self._manifest.variables.get(match[1])
            if found is None:
                self._flaws.append(
                    ("variable-missing", line, f"no manifest gives {match[1]!r} a value")
                )
                return match[0]
            return found

        if "](var:" not in line.text:
            return line
        return dataclasses.replace(line, text=_VARIABLE.sub(value, line.text))

    def _of_variant(self, lines: Sequence[Line], variant: str | None) -> Iterator[Line]:
        """Yield what is for *variant*; a line that held nothing else is no line."""
        opened: list[tuple[Line, bool]] = []
        for line in lines:
            kept, last, found = "", 0, False
            for match in _IF.finditer(line.text):
                found = True
                if all(shown for _line, shown in opened):
                    kept += line.text[last : match.start()]
                last = match.end()
                if match[1] is not None:
                    opened.append((line, variant in match[1].split()))
                elif opened:
                    opened.pop()
                else:
                    self._flaws.append(("if-tags", line, "</if> closes nothing"))
            is_shown = all(shown for _line, shown in opened)
            if is_shown:
                kept += line.text[last:]
            if kept.strip() or (is_shown and not found):
                yield dataclasses.replace(line, text=kept)
        for line, _shown in opened:
            self._flaws.append(
                ("if-tags", line, '<if type="…"> has no </if>: it hides or shows all that follows')
            )


def _lines(text: str, file: str) -> list[Line]:
    """Lines as Markdown counts them (``splitlines`` cuts at more)."""
    parts = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [Line(text=part, line=number, file=file) for number, part in enumerate(parts, 1)]


def _find_manifest(path: Path, root: Path) -> Path | None:
    """The manifest near a page that lists it."""
    folder = path.resolve().parent
    for one in (folder, *folder.parents):
        for found in (one / "manifest.json", *sorted(one.glob("workshops/*/manifest.json"))):
            if found.is_file() and _entry(_decoded(found), found, path) is not None:
                return found
        if one == root:
            return None
    return None


def _decoded(file: Path) -> dict[str, Any]:
    text = read_text(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise PageError(f"{file}: line {line}", expected="JSON", found=str(error)) from None
    if not isinstance(content, dict):
        raise PageError(f"{file}: line 1", expected="an object", found=type(content).__name__)
    return content


def _entry(content: Mapping[str, Any], file: Path, path: Path) -> Mapping[str, Any] | None:
    """What a manifest says of one page."""
    tutorials = content.get("tutorials")
    for one in tutorials if isinstance(tutorials, list) else []:
        name = one.get("filename") if isinstance(one, dict) else None
        if isinstance(name, str) and (file.parent / name).resolve() == path.resolve():
            return one  # type: ignore[no-any-return]
    return None


def _read_manifest(file: Path, path: Path, root: Path) -> Manifest:
    content = _decoded(file)
    includes, variables = content.get("include"), content.get("variables")
    values: dict[str, str] = {}
    for name in variables if isinstance(variables, list) else []:
        if isinstance(name, str) and not is_remote(name):
            goal = inside(root, file.parent, name, str(file))
            if not goal.exists():
                continue  # copied from a template; a variable that is used is told as missing
            given = _decoded(goal)
            values |= {key: value for key, value in given.items() if isinstance(value, str)}
    kind = (_entry(content, file, path) or {}).get("type")
    types = (
        [kind] if isinstance(kind, str) else list(kind) if isinstance(kind, (list, dict)) else []
    )
    return Manifest(
        includes={
            key: inside(root, file.parent, value, str(file))
            for key, value in (includes if isinstance(includes, dict) else {}).items()
            if isinstance(value, str) and not is_remote(value) and not value.startswith("/")
        },
        variables=values,
        types=tuple(one for one in types if isinstance(one, str)),
    )
