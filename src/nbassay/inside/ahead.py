"""
Libraries that were imported before a box began, out of sight until its program imports them.

Importing TensorFlow takes seconds, so a process does it once and each box starts as a fork of that
(`nbassay.inside.zygote`). What an import leaves besides its modules is put off with them: what it
printed, the random numbers that it drew, its warning filters and variables. So a program sees what
it would see in a fresh process, in the same order.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pickle
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

MOST_DRAWS = 1000
_DRAWING_BITS = 32  # one word of the generator; a smaller number takes a whole one, too
_INLINE = "module://matplotlib_inline.backend_inline"
"""What ipykernel tells Matplotlib, which reads it when it is imported."""


is_used = False
"""Whether this process is a fork that runs a box's program."""


class UnfitError(Exception):
    """A process with these libraries cannot be forked, or a fork could be told from a fresh one."""


class Hidden:
    """
    Modules that were imported ahead; as a finder it hands them out when they are asked for.

    Args:
        asked_for: Whose import brings all of them; others of *modules* come by themselves.
        modules: By name; whole packages only.
        left: What else the imports did.
    """

    def __init__(
        self, asked_for: Sequence[str], modules: dict[str, ModuleType], left: Traces
    ) -> None:
        self._roots = {name.partition(".")[0] for name in asked_for}
        self._modules = modules
        self._specs: dict[str, Any] = {}
        self._traces: Traces | None = left

    def hide(self) -> None:
        """Take them out of sight."""
        for name in self._modules:
            del sys.modules[name]
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Only packages themselves are asked for: their modules are there as soon as they are."""
        if name not in self._modules or "." in name:
            return None
        return ModuleSpec(name, self, origin="imported ahead")  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = self._modules[spec.name]
        self._specs[spec.name] = module.__spec__  # importlib is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Bring the package, or everything, into sight, as if it had been imported now."""
        name = module.__name__
        module.__spec__ = self._specs.pop(name)
        are_all = name in self._roots
        found = {
            each: self._modules.pop(each)
            for each in [*self._modules]
            if are_all or each.partition(".")[0] == name
        }
        sys.modules.update(found)
        if are_all and self._traces is not None:
            self._traces.leave()
            self._traces = None
        for each, one in found.items():
            if each != name:  # wrapt itself sees that one
                wrapt.notify_module_loaded(one)


class Traces:
    """What imports did besides defining modules."""

    def __init__(self, writable: Sequence[str]) -> None:
        self._writable = writable
        self.files: dict[Path, bytes | None] = {}
        """What there is to be in the folders that can be written; None for a folder."""
        self.said: dict[int, bytes] = {}
        self.draws = 0
        self.filters: tuple[list[Any], list[Any]] = ([], [])
        """Before and behind those that there were."""
        self.variables: dict[str, str] = {}

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """
        Note what the block does and take it back.

        Raises:
            UnfitError: It does what cannot be put off.
        """
        numbers, arrays = random.getstate(), _state_of_numpy()
        filters, variables = [*warnings.filters], dict(os.environ)
        files = {*self._all_files()}
        with _heard(1) as out, _heard(2) as error:
            yield
        self.said = {1: _content(out), 2: _content(error)}
        self.draws = _draws_between(numbers, random.getstate())
        random.setstate(numbers)
        if arrays is not None and arrays != _state_of_numpy():
            raise UnfitError("importing them draws from NumPy's generator")
        now = [*warnings.filters]
        starts = [at for at in range(len(now)) if now[at : at + len(filters)] == filters]
        if not starts:
            raise UnfitError("importing them changes warning filters")
        self.filters = now[: starts[0]], now[starts[0] + len(filters) :]
        _set_filters(filters)
        if any(os.environ.get(name) != value for name, value in variables.items()):
            raise UnfitError("importing them changes environment variables")
        self.variables = {
            name: value for name, value in os.environ.items() if name not in variables
        }
        for name in self.variables:
            del os.environ[name]
        for path in self._all_files():
            if path not in files:
                self.files[path] = path.read_bytes() if path.is_file() else None

    def _all_files(self) -> Iterator[Path]:
        """Parents first."""
        for folder in self._writable:
            yield from sorted(Path(folder).rglob("*"))

    def leave(self) -> None:
        """Do it now."""
        for _ in range(self.draws):
            random.getrandbits(_DRAWING_BITS)
        _set_filters([*self.filters[0], *warnings.filters, *self.filters[1]])
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)
        with contextlib.suppress(OSError):  # a notebook may have taken the room, or the rights
            for path, content in self.files.items():
                if content is None:
                    path.mkdir(exist_ok=True)
                elif not path.exists():
                    path.write_bytes(content)
        for descriptor, said in self.said.items():
            if said:
                (sys.stdout if descriptor == 1 else sys.stderr).flush()
                os.write(descriptor, said)


def import_ahead(libraries: Sequence[str], writable: Sequence[str]) -> Hidden:
    """
    Import *libraries*, those that are installed, and what they need; nothing is hidden yet.

    Args:
        writable: Folders in which they may leave files.

    Raises:
        UnfitError: A fork could be told from a fresh process, or one of them cannot be imported.
    """
    before = set(sys.modules)
    packages = {name.partition(".")[0] for name in before} | sys.stdlib_module_names
    traces = Traces(writable)
    os.environ["MPLBACKEND"] = _INLINE
    with traces.gathered():
        for name in libraries:
            if importlib.util.find_spec(name) is None:
                continue
            try:
                importlib.import_module(name)
            except Exception as error:
                raise UnfitError(f"{name} cannot be imported: {error}") from error
    del os.environ["MPLBACKEND"]
    modules = {
        name: module
        for name, module in sys.modules.items()
        if name not in before and name.partition(".")[0] not in packages
    }
    return Hidden(libraries, modules, traces)


def _draws_between(before: Any, after: Any) -> int:
    """How many words Python's generator gave between two states."""
    twin = random.Random()  # noqa: S311
    twin.setstate(before)
    for draws in range(MOST_DRAWS):
        if twin.getstate() == after:
            return draws
        twin.getrandbits(_DRAWING_BITS)
    raise UnfitError("importing them seeds Python's generator, or draws from it in odd ways")


def _state_of_numpy() -> bytes | None:
    """State of NumPy's generator; None when it has not been imported."""
    numpy = sys.modules.get("numpy")
    return None if numpy is None else pickle.dumps(numpy.random.get_state())


def _set_filters(filters: Sequence[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _heard(descriptor: int) -> Iterator[int]:
    """A file in memory that takes what the block writes to *descriptor*, of C libraries, too."""
    stream = sys.stdout if descriptor == 1 else sys.stderr
    stream.flush()
    kept, file = os.dup(descriptor), os.memfd_create("said")
    os.dup2(file, descriptor)
    try:
        yield file
    finally:
        stream.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _content(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as opened:
        return opened.read()


def why_not_forkable() -> str | None:
    """Why this process must not be forked for strangers; None when it may."""
    if len([*Path("/proc/self/task").iterdir()]) > 1:
        return "importing them starts threads"
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    if getattr(context, "_initialized", False):
        return "importing them starts TensorFlow's runtime"
    for line in Path("/proc/self/maps").read_text().splitlines():
        mode = line.split(None, 2)[1]
        if mode[1] == "w" and mode[3] == "s":
            return "importing them maps memory that forks would share"
    return None
