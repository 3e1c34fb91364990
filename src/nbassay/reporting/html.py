"""HTML pages: templates filled with prepared records."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jinja2

from nbassay.records import ControlResult, FreshRuns, Results, SubmissionResult
from nbassay.reporting.classroom import class_page
from nbassay.reporting.student import student_page

_EMPTY: Mapping[int, str] = MappingProxyType({})


@functools.lru_cache(maxsize=8)
def environment(lab_templates: Path | None) -> jinja2.Environment:
    """
    Templates by folder: ``lab/…`` from the workshop, ``engine/…`` from the package.

    Args:
        lab_templates: The workshop's reports folder; it may be absent or hold only some files.
    """
    # A file that is looked for and missing would be looked for again for every report.
    lab: jinja2.BaseLoader = jinja2.DictLoader({"style.css": ""})
    if lab_templates is not None:
        lab = jinja2.ChoiceLoader([jinja2.FileSystemLoader(lab_templates), lab])
    return jinja2.Environment(
        loader=jinja2.PrefixLoader(
            {"lab": lab, "engine": jinja2.PackageLoader("nbassay", "reporting/templates")}
        ),
        autoescape=True,  # not select_autoescape(): it leaves *.html.j2 unescaped
        auto_reload=False,  # one command, one state of the files
        undefined=jinja2.StrictUndefined,  # a misspelt field fails instead of printing nothing
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_student(
    result: SubmissionResult,
    *,
    reference: SubmissionResult | None,
    controls: Sequence[ControlResult],
    workshop_title: str,
    pictures: Mapping[int, str] = _EMPTY,
    step_titles: Mapping[int, str] = _EMPTY,
    fresh_runs: FreshRuns | None = None,
    reports_dir: Path | None = None,
) -> str:
    """
    Render one learner's report, a self-contained page without script.

    Args:
        result: The learner's sheet.
        reference: The reference's sheet, whose numbers stand beside the learner's.
        controls: The class's control samples; empty for a self-check.
        workshop_title: Over the heading.
        pictures: Position in the test set → ``data:`` address (`nbassay.reporting.pictures`).
        step_titles: Step → its title.
        fresh_runs: What is known of chance; None when it was not measured.
        reports_dir: The workshop's templates; the engine's where it has none.
    """
    page = student_page(
        result,
        reference=reference,
        controls=controls,
        workshop_title=workshop_title,
        pictures=pictures,
        step_titles=step_titles,
        fresh_runs=fresh_runs,
    )
    templates = environment(reports_dir)
    chosen = templates.select_template(["lab/student.html", "engine/student.html"])
    return chosen.render(page=page)


def render_class(
    results: Results,
    *,
    workshop_title: str | None = None,
    step_titles: Mapping[int, str] = _EMPTY,
    reports_dir: Path | None = None,
) -> str:
    """
    Render the class page; its one script is static text of ours, allowed by its digest.

    Args:
        results: A graded class.
        workshop_title: The heading; the one in *results* when not given.
        step_titles: Step → its title.
        reports_dir: The workshop's templates; the engine's where it has none.
    """
    page = class_page(
        results,
        workshop_title=workshop_title or results.workshop.title,
        step_titles=step_titles,
    )
    templates = environment(reports_dir)
    chosen = templates.select_template(["lab/class.html", "engine/class.html"])
    return chosen.render(page=page, script_digest=_script_digest(templates))


def _script_digest(templates: jinja2.Environment) -> str:
    """What the content security policy calls our script: the digest of its exact text."""
    script = templates.get_template("engine/class.js").render()
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
