"""``junit.xml``: one testsuite a learner, one testcase a check."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from nbassay.records import CheckResult, Results, SubmissionResult
from nbassay.reporting.text import number, visible

# What XML 1.0 allows besides tab and line ends; `visible` has already named the rest, this is
# the format's own rule.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(results: Results) -> str:
    """
    Write the results for tools that read JUnit XML.

    ``failed`` becomes a failure, ``not-reached`` is skipped, ``broken`` is an error. A submission
    without a sheet has one testcase that says why: an unreadable file fails, one that was not run
    is an error (ours).
    """
    root = ET.Element("testsuites", name=_clean(results.workshop.title))
    for one in sorted(results.submissions, key=lambda one: (one.learner.casefold(), one.learner)):
        _add_suite(root, one)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(root, encoding='unicode')}\n"


def _add_suite(root: ET.Element, one: SubmissionResult) -> None:
    suite = ET.SubElement(root, "testsuite", name=_clean(one.learner))
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("status", one.status),
        ("file", one.file),
        ("digest", one.digest),
        ("score", "" if one.score is None else number(one.score)),
        ("max_score", number(one.max_score)),
    ):
        ET.SubElement(properties, "property", name=name, value=_clean(value))
    for check in one.checks:
        _add_case(suite, one, check)
    if not one.checks:
        _add_whole(suite, one)
    if one.notes:
        ET.SubElement(suite, "system-out").text = _clean("\n".join(one.notes))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def _add_case(suite: ET.Element, one: SubmissionResult, check: CheckResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_clean(one.learner),
        name=_clean(check.id),
        time="0",
    )
    words = _clean(check.saw or check.wanted)
    more = _lines(("wanted", check.wanted), ("saw", check.saw), ("next", check.hint))
    if check.outcome == "failed":
        ET.SubElement(case, "failure", message=words, type="failed").text = more
    elif check.outcome == "not-reached":
        ET.SubElement(case, "skipped", message=words).text = more
    elif check.outcome == "broken":
        ET.SubElement(case, "error", message=words, type="broken").text = more


def _add_whole(suite: ET.Element, one: SubmissionResult) -> None:
    """A submission that has no sheet must not look like one where all went well."""
    if one.status == "graded":
        return
    case = ET.SubElement(
        suite, "testcase", classname=_clean(one.learner), name="submission", time="0"
    )
    kind = "failure" if one.status == "unreadable" else "error"
    message = _clean(one.notes[0] if one.notes else one.status)
    ET.SubElement(case, kind, message=message, type=one.status)


def _lines(*parts: tuple[str, str | None]) -> str:
    return "\n".join(_clean(f"{name}: {value}") for name, value in _present(parts))


def _present(parts: Iterable[tuple[str, str | None]]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in parts if value)


def _clean(text: str) -> str:
    return _NOT_XML.sub("", visible(text))
