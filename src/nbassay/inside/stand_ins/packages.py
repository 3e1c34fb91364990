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
from nbassay.inside.stand_ins.arguments import tolerant_parser, words

PIP_WITH_VALUE = (
    *("-c", "--constraint", "-e", "--editable", "-f", "--find-links", "-i", "--index-url"),
    *("-t", "--target", "--cache-dir", "--extra-index-url", "--no-binary", "--only-binary"),
    *("--platform", "--prefix", "--progress-bar", "--proxy", "--python-version", "--retries"),
    *("--root", "--timeout", "--trusted-host", "--upgrade-strategy"),
)
CONDA_WITH_VALUE = ("-c", "--channel", "-n", "--name", "-p", "--prefix", "--file", "--solver")
CONDA_WITHOUT_EFFECT = ("activate", "clean", "config", "deactivate", "init", "update-all")
CONDA_SPEC = re.compile(r"(?:[\w.-]+::)?([A-Za-z0-9][\w.-]*)\s*(.*)", re.DOTALL)


def pip(arguments: Sequence[str]) -> int:
    """``pip ARGUMENT…``: *install* looks at what is there, all else is pip's own."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    if command in ("download", "wheel", "uninstall"):
        return _refuse(f"pip {command}", "the grader's packages stay as they are")
    if command != "install":
        return _real_pip(arguments)
    parser = tolerant_parser(with_value=PIP_WITH_VALUE)
    parser.add_argument("-r", "--requirement", action="append", default=[])
    asked, others = parser.parse_known_args([word for word in arguments if word != command])
    wanted = words(others)
    for name in asked.requirement:
        try:
            lines = Path(name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            print(f"ERROR: Could not open requirements file: {error}", file=sys.stderr)
            return 1
        stripped = (line.partition(" #")[0].strip() for line in lines)
        wanted += [line for line in stripped if line and not line.startswith(("#", "-"))]
    return _install("pip", wanted)


def conda(arguments: Sequence[str]) -> int:
    """``conda ARGUMENT…``: the grader's Python is the one environment there is."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    if command in CONDA_WITHOUT_EFFECT:
        print(f"conda {command}: the grader has one environment, and it is active.")
        return 0
    if command == "list":
        return _real_pip(["list"])
    if command not in ("install", "update", "upgrade"):
        return _refuse(f"conda {command}".strip(), "there is one environment, this one")
    parser = tolerant_parser(with_value=CONDA_WITH_VALUE)
    _asked, others = parser.parse_known_args([word for word in arguments if word != command])
    return _install("conda", [_from_conda(word) for word in words(others)])


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
