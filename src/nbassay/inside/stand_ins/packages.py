"""``pip`` and ``conda``: satisfied by what is installed, since nothing can be fetched."""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from nbassay.inside.stand_ins import NO_NETWORK
from nbassay.inside.stand_ins.arguments import take_apart

PIP_WITH_VALUE = (
    "-c --constraint -e --editable -f --find-links -i --index-url -r --requirement -t --target "
    "--abi --cache-dir --cert --config-settings --extra-index-url --implementation --log "
    "--no-binary --only-binary --platform --prefix --progress-bar --proxy --python "
    "--python-version --report --retries --root --root-user-action --src --timeout --trusted-host "
    "--upgrade-strategy --use-deprecated --use-feature"
)
CONDA_WITH_VALUE = "-c --channel -n --name -p --prefix --file --repodata-fn --solver --subdir"
MOST_DEEP = 8
"""Files of requirements that name each other."""
CONDA_WITHOUT_EFFECT = ("activate", "clean", "config", "deactivate", "info", "init")
CONDA_SPEC = re.compile(r"(?:[\w.-]+::)?([A-Za-z0-9][\w.-]*)\s*(.*)", re.DOTALL)


def pip(arguments: Sequence[str]) -> int:
    """``pip ARGUMENT…``: *install* looks at what is there, all else is pip's own."""
    told = take_apart(arguments, PIP_WITH_VALUE)
    command = next(iter(told.words), "")
    if command in ("download", "wheel", "uninstall"):
        return _refuse(f"pip {command}", "the grader's packages stay as they are")
    if command != "install":
        return _real_pip(arguments)
    wanted = told.words[1:]
    try:
        for name in told.values("-r", "--requirement"):
            wanted += _requirements_in(Path(name))
    except (OSError, UnicodeDecodeError) as error:
        print(f"ERROR: Could not open requirements file: {error}", file=sys.stderr)
        return 1
    return _install("pip", wanted)


def conda(arguments: Sequence[str]) -> int:
    """``conda ARGUMENT…``: the grader's Python is the one environment there is."""
    told = take_apart(arguments, CONDA_WITH_VALUE)
    command = next(iter(told.words), "")
    if command in CONDA_WITHOUT_EFFECT or not command:
        print(f"conda {command}: the grader has one environment, and it is active.")
        return 0
    if command == "list":
        return _real_pip(["list"])
    if command not in ("install", "update", "upgrade"):
        return _refuse(f"conda {command}", "there is one environment, this one")
    if told.has("--all"):
        print(f"conda {command}: what is installed is the newest that the grader has.")
        return 0
    return _install("conda", [_from_conda(word) for word in told.words[1:]])


def _requirements_in(path: Path, depth: int = 0) -> list[str]:
    """
    Requirements that a file names, and those in files that it names.

    Raises:
        OSError: A file is not there.
        UnicodeDecodeError: It is no text.
    """
    found = []
    for line in path.read_text("utf-8").replace("\\\n", " ").splitlines():
        text = re.split(r"(?:^|\s)#", line)[0].strip()
        other = re.match(r"(?:-r|--requirement)[ =]?(.+)", text)
        if other and depth < MOST_DEEP:
            found += _requirements_in(path.parent / other[1].strip(), depth + 1)
        elif text and not text.startswith("-"):
            found.append(re.split(r"\s--", text)[0])  # without the hashes behind it
    return found


def _install(command: str, wanted: Sequence[str]) -> int:
    if not wanted:
        print(f"{command}: nothing named that could be installed", file=sys.stderr)
        return 1
    missing = 0
    for text in wanted:
        is_there, said = _look_up(text)
        missing += not is_there
        print(said, file=sys.stdout if is_there else sys.stderr)
    if missing:
        return _refuse(f"{command} install", "what is not there cannot be installed")
    return 0


def _look_up(text: str) -> tuple[bool, str]:
    """Whether what *text* asks for is there, and a line that says so."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False, f"ERROR: {text} would have to be fetched"
    if requirement.url is not None:
        return False, f"ERROR: {text} would have to be fetched"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True, f"Ignoring {requirement.name}: it is for other systems"
    version = _version_of(requirement.name)
    if version is None:
        return False, f"ERROR: {requirement.name} is not installed here"
    if version and not requirement.specifier.contains(version, prereleases=True):
        return False, (
            f"ERROR: {requirement.name} {version} is installed here, "
            f"not {requirement.name}{requirement.specifier}"
        )
    return True, f"Requirement already satisfied: {text} ({version or 'installed'})"


def _version_of(name: str) -> str | None:
    """Version of a package, "" if only a module of that name is found, None if nothing is."""
    if name.lower() == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = name.replace("-", "_")
        return "" if module.isidentifier() and importlib.util.find_spec(module) else None


def _from_conda(spec: str) -> str:
    """A conda spec as a requirement: ``numpy=1.26`` is ``numpy==1.26.*``."""
    match = CONDA_SPEC.fullmatch(spec)
    if match is None:
        return spec
    name, version = match.groups()
    if re.match(r"=[^=]", version):
        release = version[1:].partition("=")[0].rstrip(".*")
        version = f"=={release}.*" if release else ""
    return f"{name}{version}"


def _refuse(command: str, why: str) -> int:
    print(f"{command}: {NO_NETWORK}; {why}.", file=sys.stderr)
    return 1


def _real_pip(arguments: Sequence[str]) -> int:
    """pip itself, where there is one."""
    if importlib.util.find_spec("pip") is None:
        return _refuse("pip", "there is no pip here")
    command = [sys.executable, "-I", "-m", "pip", *arguments]
    return subprocess.run(command, check=False).returncode
