"""``wget`` and ``curl``: the lab's own files are there, and nothing else can be fetched."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from nbassay.inside.stand_ins import NO_NETWORK
from nbassay.inside.stand_ins.arguments import tolerant_parser, words
from nbassay.inside.stand_ins.lab_files import lab_file

WGET_FAILED, CURL_FAILED, NOT_WRITTEN = 4, 6, 23
"""Their own exit statuses without a network or a host, and curl's where a file is not written."""
WGET_WITH_VALUE = ("-a", "-e", "-i", "-o", "-t", "-T", "-U", "-w")
CURL_WITH_VALUE = (
    *("-A", "--user-agent", "-b", "-C", "-d", "--data", "-e", "-H", "--header", "-m"),
    *("--max-time", "--connect-timeout", "--retry", "-u", "-w", "-x", "-X", "-z"),
)


def wget(arguments: Sequence[str]) -> int:
    """``wget [-O FILE] [-P FOLDER] URL…``."""
    parser = tolerant_parser(with_value=WGET_WITH_VALUE, flags="bcNqrvS")
    parser.add_argument("-O", "--output-document")
    parser.add_argument("-P", "--directory-prefix", default=".")
    asked, left_over = parser.parse_known_args(arguments)
    status = 0
    for url in filter(_is_address, words(left_over)):
        folder = Path(asked.directory_prefix)
        target = asked.output_document or str(folder / _name_in(url))
        status = _fetch("wget", url, target, failed=WGET_FAILED) or status
    return status


def curl(arguments: Sequence[str]) -> int:
    """``curl [-O | -o FILE] [--output-dir FOLDER] URL…``; without these to standard output."""
    parser = tolerant_parser(with_value=CURL_WITH_VALUE, flags="#fgjkLsSvZ")
    parser.add_argument("-o", "--output", action="append", default=[], dest="targets")
    parser.add_argument("-O", "--remote-name", action="append_const", const="", dest="targets")
    parser.add_argument("--remote-name-all", action="store_true")
    parser.add_argument("--output-dir", default=".")
    parser.add_argument("--url", action="append", default=[])
    asked, left_over = parser.parse_known_args(arguments)
    targets = list(asked.targets)
    status = 0
    for url in [*asked.url, *filter(_is_address, words(left_over))]:
        target = targets.pop(0) if targets else "" if asked.remote_name_all else "-"
        if target != "-":
            target = str(Path(asked.output_dir) / (target or _name_in(url)))
        status = _fetch("curl", url, target, failed=CURL_FAILED) or status
    return status


def _is_address(word: str) -> bool:
    return "/" in word


def _name_in(url: str) -> str:
    return Path(urlsplit(url).path).name or "index.html"


def _fetch(command: str, url: str, target: str, *, failed: int) -> int:
    """
    Write the lab's file that *url* or *target* names to *target* (``-``: standard output).

    Returns:
        0, or *failed* where the lab has no such file, or `NOT_WRITTEN`.
    """
    found = lab_file(urlsplit(url).path) or lab_file(target)
    if found is None:
        print(f"{command}: {NO_NETWORK}, and {url} is no file of the lab.", file=sys.stderr)
        return failed
    if target == "-":
        with found.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        return 0
    path = Path(target)
    if path.exists() and path.samefile(found):
        print(f"{command}: {target} is already there.", file=sys.stderr)
        return 0
    try:
        if command == "wget":
            path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link to a file that cannot be written
        shutil.copyfile(found, path)
    except OSError as error:
        print(f"{command}: {target}: {error.strerror}", file=sys.stderr)
        return NOT_WRITTEN
    print(f"{command}: {NO_NETWORK}; {target} is the lab's own file.", file=sys.stderr)
    return 0
