"""
What a box sees of the file system: an allow-list, as options of bwrap.

Nothing exists inside but what is named here. Parents come before children, so a mount may lie in
a writable folder and a Python below /tmp survives the box's own /tmp.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from nbassay.errors import SandboxError
from nbassay.sandbox import Mount

_MB = 1 << 20
SHM = "/dev/shm"  # noqa: S108
_SHM_MB = 64
_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = (
    "/etc/alternatives",  # BLAS on Debian is a link through it
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs",
)
_MOST_COPIES = 1000  # private files of one mount


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of bwrap, and the contents of files that they refer to."""

    arguments: tuple[str, ...]
    """Where an option takes a descriptor: ``{name}`` of a file in *contents*."""
    contents: dict[str, bytes]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
    """One thing in the box's file tree."""

    inside: str
    arguments: tuple[str, ...]
    content: bytes | None = None


def lay_out(
    *,
    python: Iterable[Path],
    mounts: Sequence[Mount],
    writable: Sequence[str],
    workdir: str,
    disk_mb: int,
    uid: int,
    is_other_user: bool,
) -> Options:
    """
    Say what the box sees.

    Args:
        python: Folders and files of the interpreter, seen at their own place.
        mounts: What the caller lays in.
        writable: Folders that get a fresh tmpfs of *disk_mb* each.
        workdir: Made if it is in none of these.
        disk_mb: Size of a writable folder, MB (2**20 bytes).
        uid: User id inside, for the box's own /etc/passwd.
        is_other_user: Whether the box's user is not the one who starts it, so that what only the
            latter may read must be handed over, and folders must be open to all to be writable.

    Raises:
        SandboxError: A path is not absolute, or something to lay in is not there.
    """
    entries: list[_Entry] = []
    for folder in writable:
        size = str(disk_mb * _MB)
        entries.append(
            _Entry(
                inside=_clean(folder),
                # Sticky, like /tmp: folders that lead to a mount stay where they are.
                arguments=("--perms", "1777", "--size", size, "--tmpfs", _clean(folder)),
            )
        )
    entries += _system(uid)
    for path in python:
        entries.append(_bound(path, str(path)))
    for mount in mounts:
        entries += _laid_in(mount.host, _clean(mount.inside), is_other_user=is_other_user)
    # The last word on a path is the caller's; then parents first.
    by_path = {entry.inside: entry for entry in entries}
    ordered = sorted(by_path.values(), key=lambda entry: len(PurePosixPath(entry.inside).parts))

    open_roots = [_clean(folder) for folder in writable]
    arguments: list[str] = []
    contents: dict[str, bytes] = {}
    made = {"/", *by_path}
    for entry in ordered:
        arguments += _parents(entry.inside, made, open_roots)
        arguments += entry.arguments
        if entry.content is not None:
            contents[entry.inside] = entry.content
    workdir = _clean(workdir)
    arguments += _parents(workdir + "/any", made, open_roots)
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    # bwrap's own /dev is a tmpfs of half the memory.
    arguments += ["--perms", "1777", "--size", str(_SHM_MB * _MB), "--tmpfs", SHM]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", workdir]
    return Options(arguments=tuple(arguments), contents=contents)


def _system(uid: int) -> Iterator[_Entry]:
    """Programs and libraries of the system, and the few files of /etc that they look for."""
    yield _bound(Path("/usr"), "/usr")
    for name in _SYSTEM_LINKS:
        path = Path(name)
        if path.is_symlink():
            yield _Entry(inside=name, arguments=("--symlink", str(path.readlink()), name))
        elif path.is_dir():
            yield _bound(path, name)
    for name in _ETC:
        if Path(name).exists():
            yield _bound(Path(name), name)
    yield _written("/etc/passwd", f"learner:x:{uid}:{uid}::/home/learner:/bin/sh\n".encode())
    yield _written("/etc/group", f"learner:x:{uid}:\n".encode())
    yield _written("/etc/hosts", b"127.0.0.1 localhost lab\n::1 localhost\n")


def _bound(host: Path, inside: str) -> _Entry:
    return _Entry(inside=inside, arguments=("--ro-bind", str(host), inside))


def _written(inside: str, content: bytes) -> _Entry:
    arguments = ("--perms", "0444", "--ro-bind-data", f"{{{inside}}}", inside)
    return _Entry(inside=inside, arguments=arguments, content=content)


def _laid_in(host: Path, inside: str, *, is_other_user: bool) -> Iterator[_Entry]:
    """A file or folder of the caller's; what the box's user could not read is handed over."""
    host = host.absolute()
    if not host.exists():
        raise SandboxError(f"cannot lay {inside} into the box: {host} does not exist")
    if not is_other_user or _is_open_to_all(host):
        yield _bound(host, inside)
        return
    if not host.is_dir():
        yield _written(inside, host.read_bytes())
        return
    yield _Entry(inside=inside, arguments=("--perms", "0755", "--dir", inside))
    for count, child in enumerate(sorted(host.iterdir())):
        if count >= _MOST_COPIES:
            raise SandboxError(f"{host} is private and has too many files; open it: chmod o+rx")
        place = f"{inside}/{child.name}"
        if child.is_symlink():
            # As it is: following it with root's rights could hand over any file of the host.
            yield _Entry(inside=place, arguments=("--symlink", str(child.readlink()), place))
        elif child.is_dir() or child.is_file():
            yield from _laid_in(child, place, is_other_user=True)


def _is_open_to_all(path: Path) -> bool:
    """Whether any user may read *path* (itself; how one gets there plays no part in a box)."""
    mode = path.stat().st_mode
    wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & wanted == wanted


def _parents(inside: str, made: set[str], open_roots: Sequence[str]) -> Iterator[str]:
    """Make the folders above *inside* that nothing else makes; bwrap would make some private."""
    for parent in reversed(PurePosixPath(inside).parents):
        name = str(parent)
        if name in made:
            continue
        made.add(name)
        is_open = any(parent.is_relative_to(root) for root in open_roots)
        yield from ("--perms", "0777" if is_open else "0755", "--dir", name)


def _clean(path: str) -> str:
    """
    An absolute path without ``..`` and trailing slash.

    Raises:
        SandboxError: It is not absolute, or it is the root.
    """
    clean = os.path.normpath(path)
    if not clean.startswith("/") or clean.strip("/") == "":
        raise SandboxError(f"not a path inside a box: {path!r}")
    return "/" + clean.lstrip("/")
