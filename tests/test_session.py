"""What a check does, however odd, becomes its outcome, and nothing else of the class."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tiny_with_checks
from test_classscore import lay_class

from nbassay.errors import ManifestError
from nbassay.pipeline import score_class
from nbassay.records import CheckResult
from nbassay.workshop import read_workshop

HEAD = """
import os, subprocess, sys, unittest
import pytest
from nbassay.authoring import check

def asked(function):
    return check("odd.one", step=1, hint="?")(function)

@pytest.fixture
def noting(observed, saw):
    saw("noted")
    saw.number("figure", "1")
    return saw
"""

ODD = {
    # how it ends
    "passes": ("def test_it(observed): pass", "passed", ""),
    "fails": ("def test_it(observed): assert False, 'why'", "failed", "why"),
    "skips": ("def test_it(observed): pytest.skip('gone')", "not-reached", "gone"),
    "skips as unittest does": (
        "def test_it(observed): raise unittest.SkipTest('gone')", "not-reached", "gone",
    ),
    "is skipped as unittest does": (
        "@unittest.skip('gone')\ndef test_it(observed): pass", "not-reached", "gone",
    ),
    "ends the process": ("def test_it(observed): sys.exit(0)", "broken", "SystemExit"),
    "is known to fail": (
        "@pytest.mark.xfail\ndef test_it(observed): assert False, 'why'", "failed", "why",
    ),
    "fails afterwards": (
        "@pytest.fixture\ndef after(observed):\n    yield\n    assert False, 'why'\n\n"
        "@asked\ndef test_it(after): pass", "failed", "why",
    ),
    # fixtures
    "skips in a fixture": (
        "@pytest.fixture\ndef gone(observed): pytest.skip('gone')\n\n"
        "@asked\ndef test_it(gone): pass", "not-reached", "gone",
    ),
    "skips in a fixture as unittest does": (
        "@pytest.fixture\ndef gone(observed): raise unittest.SkipTest('gone')\n\n"
        "@asked\ndef test_it(gone): pass", "not-reached", "gone",
    ),
    "a fixture breaks": (
        "@pytest.fixture\ndef bad(observed): return {}['x']\n\n"
        "@asked\ndef test_it(bad): pass", "broken", "KeyError",
    ),
    "a fixture notes": ("def test_it(noting): pass", "passed", "noted"),
    "a fixture notes and then skips": (
        "@pytest.fixture\ndef gone(noting): pytest.skip('gone')\n\n"
        "@asked\ndef test_it(gone): pass", "not-reached", "noted; gone",
    ),
    "a fixture notes, skips, and notes are asked for after it": (
        "@pytest.fixture\ndef gone(observed, saw):\n    saw('noted')\n    pytest.skip('gone')\n\n"
        "@asked\ndef test_it(gone, saw): pass", "not-reached", "noted; gone",
    ),
    "notes are taken by way of another": (
        "@pytest.fixture\ndef saw(saw): return lambda text: saw('step: ' + text)\n\n"
        "@asked\ndef test_it(observed, saw): saw('one')", "passed", "step: one",
    ),
    "uses what pytest has": (
        "def test_it(observed, capfd, tmp_path, monkeypatch, recwarn):\n"
        "    os.write(1, b'x')\n    assert capfd.readouterr().out == 'x'", "passed", "",
    ),
    # what it writes and reads
    "prints": ("def test_it(observed): print('a' * 1_000_000)", "passed", ""),
    "prints what is no text": (
        "def test_it(observed):\n    print('\\ud800')\n    sys.stdout.buffer.write(b'\\xff')",
        "passed", "",
    ),
    "writes past Python": (
        "def test_it(observed): os.write(1, b'leaked')", "passed", "",
    ),
    "has a child that reads": (
        "def test_it(observed): assert not subprocess.run(['cat'], stdout=-1).stdout", "passed", "",
    ),
}  # fmt: skip


def workshop_with(tmp_path: Path, check: str) -> Path:
    """The tiny workshop with *check* as its only one, and one learner graded, in ``out``."""
    asked = check if "@asked" in check else f"@asked\n{check}"
    name, checks = f"test_{tmp_path.name}.py", f"{HEAD}\n{asked}\n"
    folder = tiny_with_checks(tmp_path / "workshop", name, checks, odd_one=20)
    lay_class(tmp_path / "out", read_workshop(folder), 1)
    return folder


def sheet_of(tmp_path: Path, check: str) -> CheckResult:
    folder = workshop_with(tmp_path, check)
    (one,) = score_class(tmp_path / "out", workshop=read_workshop(folder)).submissions
    (result,) = one.checks
    return result


@pytest.mark.parametrize(("check", "outcome", "saw"), ODD.values(), ids=ODD)
def test_an_odd_check_has_the_outcome_that_pytest_gives_it(
    tmp_path: Path, check: str, outcome: str, saw: str
) -> None:
    """
    Passed and broken keep the points, failed and not-reached lose them; notes are kept.
    """
    result = sheet_of(tmp_path, check)

    assert result.outcome == outcome
    assert result.earned == (20 if outcome in ("passed", "broken") else 0)
    assert saw in result.saw
    assert outcome == "broken" or result.saw == saw


def test_what_a_check_writes_and_reads_is_nobodys(tmp_path: Path) -> None:
    """
    Standard output of ``score --json`` is the results alone; a check's child waits for no input.
    """
    check = "def test_it(observed):\n    os.write(1, b'leaked')\n    subprocess.run(['cat'])"
    folder = workshop_with(tmp_path, check)
    command = [sys.executable, "-m", "nbassay", "score", tmp_path / "out", "--json"]
    with subprocess.Popen(
        [*command, "--workshop", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as scoring:
        assert scoring.stdout is not None
        told = scoring.stdout.read()  # while its input stays open

    assert json.loads(told)["submissions"][0]["checks"][0]["outcome"] == "passed"


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("@asked\ndef test_a(observed): pass\n@asked\ndef test_b(observed): pass", "of its own"),
        (
            "@pytest.mark.parametrize('k', [1, 2])\n@asked\ndef test_it(observed, k): pass",
            "loop inside it",
        ),
    ],
)
def test_two_outcomes_of_one_id_are_refused(tmp_path: Path, check: str, words: str) -> None:
    """
    Only one of them would count, so a check's id is its own, and it is not parametrized.
    """
    with pytest.raises(ManifestError, match=words):
        sheet_of(tmp_path, check)
