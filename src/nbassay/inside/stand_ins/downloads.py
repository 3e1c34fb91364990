"""``wget`` and ``curl``: the lab's own files are there, and nothing else can be fetched."""

from __future__ import annotations

import filecmp
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from nbassay.inside.stand_ins import NO_NETWORK
from nbassay.inside.stand_ins.arguments import take_apart
from nbassay.inside.stand_ins.lab_files import lab_file

WGET_FAILED, CURL_FAILED, NOT_WRITTEN = 4, 6, 23
"""Their own exit statuses without a network or a host, and curl's where a file is not written."""
WGET_WITH_VALUE = (
    "-a -A -B -D -e -i -I -l -o -O -P -Q -R -t -T -U -w -X --accept --append-output --body-data "
    "--body-file --directory-prefix --header --input-file --level --limit-rate --load-cookies "
    "--method --output-document --output-file --password --post-data --quota --referer --reject "
    "--timeout --tries --user --user-agent --wait --waitretry"
)
CURL_WITH_VALUE = (
    "-A -b -c -C -d -D -e -E -F -H -K -m -o -P -Q -r -t -T -u -U -w -x -X -y -Y -z --cacert --cert "
    "--config --connect-timeout --continue-at --cookie --cookie-jar --data --data-binary "
    "--data-raw --dump-header --form --header --key --limit-rate --max-redirs --max-time --output "
    "--output-dir --proxy --range --referer --request --resolve --retry --retry-delay "
    "--retry-max-time --stderr --upload-file --url --user --user-agent --write-out"
)


def wget(arguments: Sequence[str]) -> int:
    """``wget [-O FILE] [-P FOLDER] URL…``."""
    told = take_apart(arguments, WGET_WITH_VALUE)
    folder = Path(next(iter(told.values("-P", "--directory-prefix")), "."))
    document = next(iter(told.values("-O", "--output-document")), None)
    status = 0 if told.words else _refuse_all("wget", WGET_FAILED)
    for url in told.words:
        target = document or str(folder / _name_in(url))
        status = _fetch("wget", url, target, failed=WGET_FAILED, makes_folders=True) or status
    return status


def curl(arguments: Sequence[str]) -> int:
    """``curl [-O | -o FILE] [--output-dir FOLDER] URL…``; without these to standard output."""
    told = take_apart(arguments, CURL_WITH_VALUE)
    urls = [*told.values("--url"), *told.words]
    targets = told.values("-o", "--output", "-O", "--remote-name")
    if told.has("--remote-name-all"):
        targets += [""] * len(urls)
    folder = Path(next(iter(told.values("--output-dir")), "."))
    status = 0 if urls else _refuse_all("curl", CURL_FAILED)
    for url in urls:
        target = targets.pop(0) if targets else "-"
        if target != "-":
            target = str(folder / (target or _name_in(url)))
        makes_folders = told.has("--create-dirs")
        status = (
            _fetch("curl", url, target, failed=CURL_FAILED, makes_folders=makes_folders) or status
        )
    return status


def _refuse_all(command: str, failed: int) -> int:
    print(f"{command}: {NO_NETWORK}, and no file of the lab was named.", file=sys.stderr)
    return failed


def _name_in(url: str) -> str:
    return Path(urlsplit(url).path).name or "index.html"


def _fetch(command: str, url: str, target: str, *, failed: int, makes_folders: bool) -> int:
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
    try:
        if path.is_file() and filecmp.cmp(found, path, shallow=False):
            print(f"{command}: {target} is already there.", file=sys.stderr)
            return 0
        if makes_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        with found.open("rb") as file, path.open("wb") as into:
            shutil.copyfileobj(file, into)
    except OSError as error:
        print(f"{command}: {target}: {error.strerror}", file=sys.stderr)
        return NOT_WRITTEN
    print(f"{command}: {NO_NETWORK}; {target} is the lab's own file.", file=sys.stderr)
    return 0
