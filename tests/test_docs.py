"""The documentation is true: its links, commands, ids, fields and words are those of the code."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import shlex
import typing
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import msgspec
import pytest
from conftest import ROOT, TINY
from markdown_it import MarkdownIt
from markdown_it.token import Token

import nbassay
from nbassay import records
from nbassay.cli import cli
from nbassay.cli_lab import lab
from nbassay.errors import AssayError
from nbassay.workshop import read_workshop

DOCS = ROOT / "docs"
DESIGN = DOCS / "design" / "0001-overview.md"
GUIDES = sorted(DOCS.rglob("*.md"))
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [
    *TOP,
    *GUIDES,
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "examples")),
    ROOT / "lab" / "lab.md",
]

SLUG = re.compile(r"[a-z]+(-[a-z]+)*")
"""A heading of this form in messages.md is an error's; the others have capitals and blanks."""
RUBRIC = read_workshop(ROOT).manifest.rubric
CHECK_ID = re.compile(rf"({'|'.join(sorted({one.split('.')[0] for one in RUBRIC}))})\.[a-z_]+")
PLANNED = "planned"

FACTS = list(typing.get_args(records.Fact))
PARTS = [
    records.BlobHeader,
    records.Evidence,
    records.Ending,
    records.SecondBox,
    records.Rebuilt,
    records.Array,
    records.Rows,
    records.Labels,
    records.Data,
    records.Layer,
    records.Step,
    records.Graph,
    records.Node,
    records.Compiled,
]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    """Every token of a page, those inside paragraphs and table cells too."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8")):
        found += [token, *(token.children or ())]
    return found


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of each heading; code spans without their ticks."""
    return [
        (int(opened.tag[1]), "".join(child.content for child in inline.children or ()))
        for opened, inline in itertools.pairwise(tokens(page))
        if opened.type == "heading_open"
    ]


def anchors(page: Path) -> set[str]:
    """What a link into the page may name, as GitHub makes it of headings."""
    seen: Counter[str] = Counter()
    found = set()
    for _level, text in headings(page):
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


def section(page: Path, title: str) -> str:
    """The text below the heading with *title*, up to the next heading of any level."""
    parts = re.split(r"^#{1,6} (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def first_column(text: str) -> list[str]:
    """The code spans that begin a table's rows."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def commands(page: Path) -> Iterator[str]:
    """Every call of nbassay in the page's fenced blocks."""
    for token in tokens(page):
        if token.type == "fence":
            for line in token.content.splitlines():
                for part in re.split(r"&&|\||;", line.strip().removeprefix("$ ")):
                    if part.strip().startswith("nbassay "):
                        yield part.strip()


def mistake(call: str) -> str | None:
    """What the command line has against a call; None when its commands and options exist."""
    words = shlex.split(call, comments=True)[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="nbassay")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]!r}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, **command.context_settings)
    try:
        values, left, _order = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"too many arguments: {left}"
    if "help" in values or isinstance(command, click.Group):
        return None
    missing = [
        one.human_readable_name
        for one in command.params
        if one.required and not _is_given(values.get(one.name or ""))
    ]
    return f"without {', '.join(missing)}" if missing else None


def _is_given(value: object) -> bool:
    return isinstance(value, (str, tuple)) and bool(value)  # click has a word of its own for unset


def errors() -> dict[str, type[AssayError]]:
    """Slug → class, of every error in the package."""
    for module in pkgutil.walk_packages(nbassay.__path__, "nbassay."):
        if not module.name.endswith("__main__"):  # importing it would run the program
            importlib.import_module(module.name)
    found, waiting = {}, [AssayError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith("nbassay."):
            found[kind.slug] = kind
    return found


# ------------------------------------------------------------------ links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_images_resolve(page: Path) -> None:
    """
    Every relative link and image leads to a file, and every anchor to a heading of its page.
    """
    broken = []
    for token in tokens(page):
        target = token.attrs.get("href") or token.attrs.get("src")
        if not isinstance(target, str) or re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        is_there = goal.is_relative_to(ROOT) and goal.exists()
        if not is_there or (anchor and goal.suffix == ".md" and anchor not in anchors(goal)):
            broken.append(target)

    assert broken == []


def test_the_map_leads_to_every_page() -> None:
    """
    docs/index.md links to each page of the documentation.
    """
    index = DOCS / "index.md"
    linked = {
        (DOCS / str(token.attrs["href"]).partition("#")[0]).resolve()
        for token in tokens(index)
        if token.type == "link_open"
    }

    assert set(GUIDES) - {index} <= linked


# ------------------------------------------------------------------ commands


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    """
    Every call of nbassay in a fenced block uses commands, options and arguments that exist.
    """
    wrong = {call: told for call in commands(page) if (told := mistake(call))}

    assert wrong == {}


def test_commands_of_the_workflow_exist() -> None:
    """
    The workflow that a workshop may copy calls nbassay as it is.
    """
    lines = (DOCS / "github" / "regress.yml").read_text("utf-8").splitlines()
    calls = [line.partition("run: ")[2] for line in lines if "run: nbassay" in line]

    assert len(calls) == 2
    assert [mistake(call) for call in calls] == [None, None]


@pytest.mark.parametrize(
    "call",
    [
        "nbassay regress a b",
        "nbassay grade",
        "nbassay grade a --slowly",
        "nbassay score a b",
        "nbassay lab to-page a -o b",
        "nbassay lab to-notebook a",
    ],
)
def test_wrong_commands_are_found(call: str) -> None:
    """
    What does not exist is not taken for a command.
    """
    assert mistake(call)


@pytest.mark.parametrize("page", [*TOP, *GUIDES], ids=name)
def test_commands_to_come_are_called_planned(page: Path) -> None:
    """
    A sentence, row or item may name a command or option that does not exist only as planned.
    """
    options = {
        option
        for command in [cli, *cli.commands.values(), *lab.commands.values()]
        for one in command.params
        for option in [*one.opts, *one.secondary_opts]
    } | {"--help"}
    known = [*cli.commands, "COMMAND"]
    foreign = {"--evidence", "--only", "--figures", "--check", "--nthreads", "--memory-limit"}
    wrong = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8")):
        if token.type != "inline":
            continue
        for span in token.children or ():
            if span.type != "code_inline" or PLANNED in token.content.lower():
                continue
            words = span.content.split()
            is_option = re.fullmatch(r"--[a-z-]+", words[0]) is not None
            if (words[0] == "nbassay" and words[1:2] and words[1] not in known) or (
                is_option and words[0] not in options | foreign
            ):
                wrong.append(span.content)

    assert wrong == []


def test_every_command_is_told_of() -> None:
    """
    docs/index.md has a row for each command.
    """
    rows = first_column((DOCS / "index.md").read_text("utf-8"))

    assert {row.split()[1] for row in rows if row.startswith("nbassay")} == set(cli.commands)


# ------------------------------------------------------------------ checks


@pytest.mark.parametrize("page", [*TOP, *GUIDES], ids=name)
def test_check_ids_exist(page: Path) -> None:
    """
    Every id of a check that a page names is in workshop.toml.
    """
    named = {
        token.content
        for token in tokens(page)
        if token.type == "code_inline" and CHECK_ID.fullmatch(token.content)
    }

    assert named <= set(RUBRIC)


def test_the_design_describes_every_check_with_its_points() -> None:
    """
    The design's table has a row for each check of workshop.toml, with the same points.
    """
    rows = re.findall(r"^\| `([a-z_.]+)` \| \d+ \| (\d+) \| \S", DESIGN.read_text("utf-8"), re.M)

    assert {check_id: float(points) for check_id, points in rows} == RUBRIC


def test_the_five_names_of_a_workshop_are_those_of_the_manifest() -> None:
    """
    The maintainers' page names the folders that both workshops' manifests point into.
    """
    told = first_column(section(DOCS / "maintainers.md", "Make another workshop"))
    manifests = [read_workshop(folder).manifest for folder in (ROOT, TINY)]
    used = {
        f"{path.partition('/')[0]}/"
        for one in manifests
        for path in (one.lab, one.reference, one.checks, one.reports)
    }

    assert set(told) == {"workshop.toml", *used}


# ------------------------------------------------------------------ messages


def test_every_error_has_its_section() -> None:
    """
    The slugs of all errors and the headings of docs/messages.md are the same.
    """
    page = DOCS / "messages.md"
    told = [text for level, text in headings(page) if level == 2 and SLUG.fullmatch(text)]

    assert sorted(told) == sorted(errors())


@pytest.mark.parametrize(
    ("title", "record", "field"),
    [
        ("Statuses of a submission", records.SubmissionResult, "status"),
        ("Outcomes of a check", records.CheckResult, "outcome"),
        ("Endings of a cell", records.CellFact, "status"),
        ("Endings of a box", records.Ending, "reason"),
    ],
)
def test_words_of_reports_are_explained(title: str, record: type, field: str) -> None:
    """
    docs/messages.md explains each word that a field can hold, and no other.
    """
    words = typing.get_args(typing.get_type_hints(record)[field])

    assert sorted(words) == sorted(first_column(section(DOCS / "messages.md", title)))


# ------------------------------------------------------------------ evidence


@pytest.mark.parametrize("record", [*FACTS, *PARTS], ids=lambda record: record.__name__)
def test_fields_of_evidence_are_described(record: type) -> None:
    """
    docs/evidence.md has a section for each record of evidence with all its fields, in order.
    """
    told = first_column(section(DOCS / "evidence.md", record.__name__))

    assert told == [field.encode_name for field in msgspec.structs.fields(record)]


def test_kinds_of_facts_are_listed() -> None:
    """
    The table of facts names each type with its record.
    """
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", section(DOCS / "evidence.md", "Facts"), re.M)

    assert dict(rows) == {kind.__struct_config__.tag: kind.__name__ for kind in FACTS}


# ------------------------------------------------------------------ tidiness


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_name_no_folder_of_an_author(page: Path) -> None:
    """
    No page names a folder that only its author's machine has.
    """
    assert re.findall(r"(?<![\w.])/(?:work|root|Users)/\S*", page.read_text("utf-8")) == []
