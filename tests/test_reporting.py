"""Reports: what they say, that they are the same twice, and that nobody's text can act in them."""

from __future__ import annotations

import ast
import csv
import inspect
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import jinja2
import jinja2.meta
import msgspec
import numpy as np
import pytest
import reporting_samples as samples
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from nbassay.errors import OutputError
from nbassay.records import Curve, FreshRuns, Results, SubmissionResult
from nbassay.reporting import charts, context
from nbassay.reporting.gradebook import formula_safe, render_gradebook
from nbassay.reporting.html import environment, render_class, render_student
from nbassay.reporting.junit import render_junit
from nbassay.reporting.pictures import picture, pictures_of
from nbassay.reporting.plain_errors import plain_error, plain_stop
from nbassay.reporting.terminal import print_check, print_class
from nbassay.reporting.text import (
    limit_text,
    listed,
    number,
    one_line,
    percent,
    plural,
    visible,
    with_article,
)
from nbassay.reporting.write import write_reports

VOID = {"meta", "link", "img", "input", "path", "rect", "circle", "line", "br"}
EVERYONE = {
    "good": samples.good,
    "never scaled": samples.never_scaled,
    "one epoch": samples.one_epoch,
    "stopped": samples.stopped,
    "by hand": samples.by_hand,
    "unreadable": samples.unreadable,
    "not run": samples.not_run,
    "hostile": samples.hostile,
}


class Page(HTMLParser):
    """A page taken apart: elements with their attributes and text, and whether tags close."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[list[str]] = []
        self.open: list[int] = []
        self.unclosed: list[str] = []
        self.feed(html)
        self.close()
        self.unclosed += [self.elements[i][0] for i in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append([])
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append([])

    def handle_endtag(self, tag: str) -> None:
        while self.open:
            i = self.open.pop()
            if self.elements[i][0] == tag:
                return
            self.unclosed.append(self.elements[i][0])
        self.unclosed.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        for i in self.open:
            self.texts[i].append(data)

    def all(self, tag: str | None = None, **attributes: str) -> list[dict[str, str]]:
        """Attributes of the elements that match; ``class_`` matches one of the classes."""
        wanted_class = attributes.pop("class_", None)
        return [
            found
            for name, found in self.elements
            if (tag is None or name == tag)
            and (wanted_class is None or wanted_class in found.get("class", "").split())
            and all(found.get(key) == value for key, value in attributes.items())
        ]

    def text_of(self, tag: str, class_: str | None = None) -> list[str]:
        """Text of the elements that match, blanks as one space."""
        return [
            " ".join("".join(text).split())
            for (name, found), text in zip(self.elements, self.texts, strict=True)
            if name == tag and (class_ is None or class_ in found.get("class", "").split())
        ]


def student(one: SubmissionResult, **changes: object) -> str:
    """The report of one learner, with the sample workshop's words."""
    arguments: dict[str, object] = {
        "reference": samples.reference(),
        "controls": samples.CONTROLS,
        "workshop_title": samples.WORKSHOP_TITLE,
        "pictures": pictures_of([row.index for row in samples.OFTEN_WRONG], samples.pristine_row),
        "step_titles": samples.STEP_TITLES,
        "fresh_runs": samples.FRESH_RUNS,
    }
    return render_student(one, **{**arguments, **changes})  # type: ignore[arg-type]


def klass(results: Results) -> str:
    """The class page, with the sample workshop's words."""
    return render_class(results, step_titles=samples.STEP_TITLES)


def everyone() -> Results:
    """A class with one of each."""
    return samples.results([make() for make in EVERYONE.values()])


PAGES = {
    **{f"report of {name}": lambda make=make: student(make()) for name, make in EVERYONE.items()},
    "report without reference": lambda: student(samples.good(), reference=None, controls=[]),
    "report under wrong controls": lambda: student(samples.good(), controls=samples.WRONG_CONTROLS),
    "class": lambda: klass(everyone()),
    "class under wrong controls": lambda: klass(
        samples.results([samples.good()], samples.WRONG_CONTROLS)
    ),
    "empty class": lambda: klass(samples.results([], [])),
    "class of 24": lambda: klass(samples.sample_class()),
}


# ---------------------------------------------------------------- every page


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES.keys())
class TestEveryPage:
    def test_same_bytes_twice(self, make):
        """
        The same results give the same bytes.
        """
        assert make() == make()

    def test_structure(self, make):
        """
        Tags close, ids are unique, links and labels resolve, one h1, one main, headings in order.
        """
        page = Page(make())

        assert page.unclosed == []
        ids = [found["id"] for _, found in page.elements if "id" in found]
        assert len(ids) == len(set(ids))
        for found in page.all("a"):
            assert found["href"].startswith("#") or found["href"].startswith("learners/")
            if found["href"].startswith("#"):
                assert found["href"][1:] in ids
        for _, found in page.elements:
            for target in found.get("aria-labelledby", "").split():
                assert target in ids
        assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
        levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert page.all("html")[0]["lang"] == "en"
        assert page.all("a", class_="skip")[0]["href"] == "#main"

    def test_tables_have_scoped_heads(self, make):
        """
        Every table head says what it is the head of.
        """
        page = Page(make())

        assert all(found.get("scope") in ("row", "col") for found in page.all("th"))

    def test_self_contained(self, make):
        """
        No page names an outside address, loads a thing, or carries anything that acts.
        """
        page = Page(make())

        names = {name for name, _ in page.elements}
        assert not names & {"iframe", "object", "embed", "form", "base", "audio", "video", "image"}
        for name, found in page.elements:
            assert not [key for key in found if key.startswith("on")]
            assert "style" not in found
            for key in ("src", "href"):
                if key in found:
                    assert re.match(r"#|learners/[^/:]+/report\.html$|data:", found[key]), (
                        name,
                        found,
                    )
        policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")

    def test_scripts(self, make):
        """
        Reports hold no script, the class page exactly its own.
        """
        html = make()
        scripts = html.lower().count("<script")

        is_class = 'id="learners-table"' in html
        assert scripts == (1 if is_class else 0)
        assert ("script-src 'sha256-" in html) == is_class

    def test_no_control_characters(self, make):
        """
        No control character, direction override or half surrogate is on a page.
        """
        assert not re.search(
            "[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", make()
        )


def test_class_links_lead_to_the_reports(tmp_path):
    """
    Every learner's link on the class page leads to a file that was written.
    """
    write_reports(
        everyone(),
        workshop_title=samples.WORKSHOP_TITLE,
        reports_dir=samples.REPORTS_DIR,
        pristine_rows=samples.pristine_row,
        out=tmp_path,
    )
    page = Page((tmp_path / "index.html").read_text("utf-8"))

    links = [found["href"] for found in page.all("a") if not found["href"].startswith("#")]
    assert len(links) >= len(EVERYONE)
    assert all((tmp_path / unquote(link)).is_file() for link in links)


# ---------------------------------------------------------------- what a report says


def test_one_outcome_word_per_check():
    """
    Each check has exactly one outcome, as a word.
    """
    page = Page(student(samples.stopped()))

    words = page.text_of("span", "outcome")
    assert len(words) == len(page.all("article")) == len(samples.CHECKS)
    assert set(words) == {"passed", "failed", "not reached"}


def test_one_status_word_per_learner():
    """
    Each row of the class page has exactly one status word.
    """
    page = Page(klass(everyone()))

    rows = [found for found in page.all("tr") if "data-status" in found]
    cells = [found for found in page.all("td") if found.get("data-order") in
             ("graded", "needs review", "unreadable", "not run")]  # fmt: skip
    assert len(rows) == len(cells) == len(EVERYONE)


def test_mark_first():
    """
    The mark, what was lost and the likeliest cause come before the checks.
    """
    html = student(samples.never_scaled())

    order = [html.index(text) for text in (
        '<span class="score-value">70</span>', "of 100\u00a0points", "30\u00a0points lost",
        "Most likely cause", "−10", "Convert to float32", 'id="checks"', 'id="numbers"',
        'id="training"', 'id="confusion"', 'id="circumstances"')]  # fmt: skip
    assert order == sorted(order)


def test_losses_in_the_labs_order_with_hints():
    """
    Each lost check is named once, in the lab's order, with its points and its hint.
    """
    page = Page(student(samples.never_scaled()))

    titles = page.text_of("h3", "loss-title")
    assert [title.split(": ")[0] for title in titles] == ["10 points lost"] * 3
    assert "Pixel values" in titles[0]
    assert page.text_of("p", "loss-text")[0].startswith("Convert to float32")


def test_what_stopped_leads_when_it_cost_most():
    """
    A notebook that stopped early is told so before its smaller mistakes.
    """
    page = Page(student(samples.stopped()))

    assert page.text_of("p", "loss") == ["−60", "−3"]
    assert "9 checks not reached" in page.text_of("h3", "loss-title")[0]
    assert "cell 9 (NameError)" in page.text_of("p", "loss-text")[0]


def test_where_it_stopped():
    """
    The stop is told in plain words beside the original text.
    """
    page = Page(student(samples.stopped()))

    assert "The cell used the name Sequental before" in "".join(page.text_of("div", "stop"))
    assert page.text_of("pre")[0] == "NameError: name 'Sequental' is not defined"
    assert page.text_of("p", "not-run") == ["Cells 11 to 14 were not run."]


def test_full_marks():
    """
    Right work loses nothing and is told so.
    """
    html = student(samples.good())

    assert "All 17 checks passed." in html
    assert 'id="lost"' not in html


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (samples.by_hand, "Marks are provisional, a person will look."),
        (samples.unreadable, "This file could not be read as a notebook"),
        (samples.unreadable, "The file is a PDF, not a Jupyter notebook."),
        (samples.not_run, "The failure is ours, not yours."),
        (samples.not_run, "No mark yet"),
        (samples.by_hand, "1\u00a0check could not be decided yet"),
    ],
)
def test_banners(make, phrase):
    """
    A sheet that is not simply graded says what that means for the learner.
    """
    assert phrase in student(make())


def test_wrong_control_makes_marks_provisional():
    """
    A control that came out wrong is the first thing on every page.
    """
    report = Page(student(samples.good(), controls=samples.WRONG_CONTROLS))
    page = Page(klass(samples.results([samples.good()], samples.WRONG_CONTROLS)))

    assert report.text_of("p", "banner-title") == ["Marks are provisional"]
    assert report.text_of("span", "tag") == ["provisional"]
    assert page.text_of("p", "banner-title")[0].startswith("All marks are provisional")
    assert page.text_of("span", "state") == ["came out wrong", "as expected"]


def test_notes_on_the_class_lead_its_page():
    """
    What concerns the class as a whole is a banner of its page and a line in the terminal.
    """
    results = msgspec.structs.replace(samples.results([samples.good()]), notes=["other <versions>"])

    assert "other <versions>" in Page(klass(results)).text_of("p")
    assert "Note: other <versions>" in without_colours(printed(print_class, results))


@pytest.mark.parametrize(
    ("lost", "low", "high", "words"),
    [
        (0, 0.0, 0.01828, "none lost points (95 % confidence: fewer than 1.9 in 100)"),
        (2, 0.00121, 0.03565, "2 lost points (95 % confidence: 0.1 to 3.6 in 100)"),
    ],
)
def test_chance_stands_with_the_accuracies(lost, low, high, words):
    """
    A report says once, in the step of the accuracies, what chance costs right work; so does the
    class page.
    """
    fresh = FreshRuns(checks=["accuracy.train"], runs=200, lost=lost, low=low, high=high)
    sentence = f"Training is random: of 200 fresh runs of the right solution, {words}."
    results = msgspec.structs.replace(samples.results([samples.good()]), fresh_runs=fresh)

    assert Page(student(samples.good(), fresh_runs=fresh)).text_of("p", "chance") == [sentence]
    assert sentence in Page(klass(results)).text_of("p")


def test_nothing_is_said_of_chance_that_was_not_measured():
    """
    Without figures there is no sentence, and none in a workshop whose checks know no chance.
    """
    other = FreshRuns(checks=["another.check"], runs=200, lost=0, low=0.0, high=0.02)
    silent = msgspec.structs.replace(samples.results([samples.good()]), fresh_runs=None)

    assert "Training is random" not in student(samples.good(), fresh_runs=None)
    assert "Training is random" not in student(samples.good(), fresh_runs=other)
    assert "Training is random" not in klass(silent)


def test_numbers_stand_beside_the_references():
    """
    Numbers are joined by label; what one side lacks is told as none.
    """
    page = Page(student(samples.stopped()))
    rows = dict.fromkeys(page.text_of("th"))

    assert "layers" in rows
    assert "–none" in page.text_of("td", "told")


def test_pictures_have_words():
    """
    Each picture says which image it is, what it shows, and what it was read as.
    """
    page = Page(student(samples.never_scaled()))

    alts = [found["alt"] for found in page.all("img")]
    assert alts[0] == "test image 115: a 4, read as 9"
    assert alts[7] == "test image 582: an 8, read as 2"
    assert len(alts) == 8


def test_appeal_digest_limits_and_versions():
    """
    The fine print names versions, sandbox, limits and the digest to quote.
    """
    one = samples.good()
    html = student(one)

    for text in (one.digest, "2.21.0", "bubblewrap (user)", "4096\u00a0MB", "whole notebook"):
        assert text in html


def test_unmeasured_says_why():
    """
    A network that could not be measured says why.
    """
    assert "No trained network was found" in student(samples.stopped())


# ---------------------------------------------------------------- the class page


def test_checks_worst_first():
    """
    Checks stand in the order of their pass rates; equal ones in the lab's order.
    """
    page = Page(klass(samples.sample_class()))

    rates = [int(text.split("\u00a0")[0].split()[0]) for text in page.text_of("span", "rate-value")]
    assert rates == sorted(rates)
    assert rates[-1] == 100
    assert len(rates) == len(samples.CHECKS)


def test_misconceptions_commonest_first():
    """
    Misconceptions are counted, commonest first.
    """
    page = Page(klass(samples.sample_class()))

    assert page.text_of("p", "how-many") == ["4 learners", "3 learners", "2 learners"]


def test_the_file_stands_under_its_learner():
    """
    Ids are made safe and say little; the file's own name is told beside them and can be found.
    """
    one = samples.with_learner(samples.good(), learner="learner-3a47328a", file="李雷 <b>.ipynb")
    html = klass(samples.results([one]))
    page = Page(html)

    assert page.text_of("span", "row-file") == ["file 李雷 <b>.ipynb"]
    assert "李雷 &lt;b&gt;.ipynb" in html
    rows = [found for found in page.all("tr") if "data-search" in found]
    assert "李雷 <b>.ipynb" in rows[0]["data-search"]
    assert "李雷 &lt;b&gt;.ipynb" in student(one)


def test_the_class_page_tells_nothing_of_one_run():
    """
    Versions and the sandbox are everybody's; the reference's seed and seconds are not.
    """
    page = Page(klass(samples.sample_class()))

    assert page.text_of("dl", "only-pairs") == [
        "Python3.11.7 tensorflow2.21.0 keras3.15.1 numpy2.4.6 Sandboxbubblewrap (user)"
    ]


def test_notes_and_training_in_the_fine_print():
    """
    A learner reads that the notebook ran again, and how it was trained.
    """
    page = Page(student(samples.never_scaled()))
    fine_print = page.text_of("section", "circumstances")[0]

    assert "run 2 times with fresh seeds, since the first missed an accuracy" in fine_print
    assert "Trainingmany batches a call, bit-identical" in fine_print


def test_misconception_first():
    """
    The likeliest cause comes first of what to look at next; the class page tells id and hint.
    """
    html = student(samples.never_scaled())
    page = Page(klass(samples.sample_class()))

    assert html.index('id="lost"') < html.index("never brought to 0..1") < html.index("−10")
    line = next(text for text in page.text_of("div", "loss-body") if "never-scaled" in text)
    assert line.startswith("The pixels were never brought to 0..1.")
    assert line.endswith("grace, ken, mary")


def test_key_figures():
    """
    The figures count everybody, and average only who was graded.
    """
    page = Page(klass(samples.results([samples.good(), samples.never_scaled(), samples.not_run()])))

    assert page.text_of("dl", "key-figures") == [
        "learners3 mean mark85 median mark85 with full marks1 need review0 not run1"
    ]


# ---------------------------------------------------------------- templates


def test_a_misspelt_field_fails():
    """
    A template that asks for what is not there fails instead of printing nothing.
    """
    template = environment(None).from_string("{{ page.marc }}")

    with pytest.raises(jinja2.UndefinedError):
        template.render(page=object())


def test_templates_use_only_the_documented_variables():
    """
    Templates know the page (and the class page its script's digest), and mark nothing as safe.
    """
    templates = environment(None)
    names = [name for name in templates.list_templates() if name.startswith("engine/")]
    own = {"page", "script_digest", "value", "banner", "check", "curve"}  # the rest: ours

    assert len(names) > 10
    for name in names:
        source = templates.loader.get_source(templates, name)[0]
        assert jinja2.meta.find_undeclared_variables(templates.parse(source)) <= own, name
        assert not re.search(r"\|\s*safe|autoescape\s+false|Markup", source), name


@pytest.mark.parametrize("module", [context, charts])
def test_every_field_is_documented(module):
    """
    Every field that a template may use has a docstring.
    """
    tree = ast.parse(inspect.getsource(module))
    for node in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        after = zip(node.body, [*node.body[1:], None], strict=True)
        for field, following in after:
            if isinstance(field, ast.AnnAssign):
                assert isinstance(following, ast.Expr), (node.name, ast.unparse(field))


def test_workshop_templates_and_styles(tmp_path):
    """
    A workshop's template overrides blocks, its styles come after the engine's.
    """
    (tmp_path / "student.html").write_text(
        '{% extends "engine/student.html" %}'
        "{% block footer %}<p>Ours & <i>ours</i></p>{% endblock %}"
    )
    (tmp_path / "style.css").write_text("h1 { color: rebeccapurple; }")

    html = student(samples.good(), reports_dir=tmp_path)
    assert "<p>Ours & <i>ours</i></p>" in html
    assert html.index("rebeccapurple") > html.index("--ground")
    assert "rebeccapurple" in render_class(everyone(), reports_dir=tmp_path)


def test_absent_reports_folder(tmp_path):
    """
    Without a reports folder the engine's pages are used.
    """
    assert student(samples.good(), reports_dir=tmp_path / "none") == student(samples.good())


# ---------------------------------------------------------------- hostile text


def test_hostile_text_is_only_text():
    """
    Markup, template syntax and escape sequences of a learner are shown, not obeyed.
    """
    for html in (student(samples.hostile()), klass(everyone())):
        assert "&lt;script&gt;alert(1)" in html
        assert "<img src=x" not in html
        assert "{{ 7*7 }}" in html
        assert "⟨U+202E⟩" in html
        assert "⟨U+0000⟩" in html
        assert "[31m" not in html
        assert "</style></title>" not in html


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_no_text_leaves_a_bracket_unescaped(text):
    """
    No text of any kind changes which tags a page has.
    """
    plain = render_student(
        with_text("x"), reference=None, controls=[], workshop_title="x", step_titles={4: "x"}
    )
    page = render_student(
        with_text(text), reference=None, controls=[], workshop_title=text, step_titles={4: text}
    )
    as_class = Page(klass(samples.results([with_text(text)])))

    assert skeleton(page) == skeleton(plain)
    assert len(as_class.all("script")) == 1
    assert as_class.unclosed == []


def with_text(text: str) -> SubmissionResult:
    """
    The hostile result with *text* wherever its texts are, each followed by a mark.

    The mark keeps texts from being empty, and so from changing the page for an honest reason.
    """
    encoded = msgspec.to_builtins(samples.hostile())

    def swap(value: object) -> object:
        if isinstance(value, str) and "alert" in value:
            return f"{text}."
        if isinstance(value, list):
            return [swap(item) for item in value]
        if isinstance(value, dict):
            return {key: swap(item) for key, item in value.items() if "alert" not in key}
        return value

    encoded["details"]["environment"] = {f"{text}.": f"{text}."}
    encoded["details"]["limits"] = {}
    encoded["details"]["curves"] = [{"metric": f"{text}.", "values": [0.1, None, 0.2]}]
    encoded["details"]["stops"][1] = encoded["details"]["stops"][0]
    for i, check in enumerate(encoded["checks"]):
        check["id"] = f"{i}{text}."
    return msgspec.convert(swap(encoded), SubmissionResult)


def skeleton(html: str) -> list[str]:
    """The tags of a page in order."""
    return [name for name, _ in Page(html).elements]


@given(st.text(st.characters(codec=None), max_size=200))
def test_visible_text_has_no_characters_that_act(text):
    """
    After `visible` no control character but tab and line end is left, and it encodes.
    """
    shown = visible(text)

    shown.encode("utf-8")
    acting = "\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff"
    hidden = (
        "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u2060-\u2064\ufeff\U000e0000-\U000e007f"
    )
    assert not re.search(f"[{acting}{hidden}]", shown)
    assert visible(shown) == shown


def test_every_character_is_shown_the_same_alone_and_among_others():
    """
    What acts is found in a word, a line and a long text alike; other characters stay.
    """
    everywhere = [chr(number) for number in (*range(0x1_0100), *range(0xE_0000, 0xE_0200))]
    everywhere.remove("\r")  # with a line end behind it, it is one

    assert [visible(one) for one in everywhere] == [visible(f"{one}\n")[:-1] for one in everywhere]
    assert visible("\u202e" + "a" * 10) == "⟨U+202E⟩" + "a" * 10


# ---------------------------------------------------------------- gradebook


def test_gradebook_is_read_again():
    """
    The gradebook has a row a learner and a column a check, with the points earned.
    """
    rows = list(csv.DictReader(io.StringIO(render_gradebook(samples.sample_class()), newline="")))

    assert len(rows) == 24
    grace = next(row for row in rows if row["learner"] == "grace")
    assert (grace["score"], grace["prep.scaling"], grace["prep.train_shape"]) == ("67", "0", "10")
    assert grace["train_accuracy"] == "0.8917"
    assert grace["first_lost"] == "prep.scaling"
    alan = next(row for row in rows if row["learner"] == "alan")
    assert (alan["status"], alan["score"], alan["prep.scaling"]) == ("not-run", "", "")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r=1", "'=1"),
        ("\ttext", "'text"),
        ("  =1", "'=1"),
        ("＝1", "'＝1"),
        ("ada", "ada"),
        ("a=b", "a=b"),
    ],
)
def test_formulas(text, safe):
    """
    Text that a spreadsheet would take for a formula gets an apostrophe.
    """
    assert formula_safe(text) == safe


@given(st.lists(st.text(st.characters(codec=None), max_size=40), min_size=1, max_size=4))
def test_gradebook_takes_any_text(texts):
    """
    No learner's text breaks a row or begins a cell like a formula.
    """
    people = [msgspec.structs.replace(samples.good(), learner=text, file=text) for text in texts]
    written = render_gradebook(samples.results(people))

    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert len(rows) == len(texts) + 1
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if re.match(r"[=+\-@\t\r\n＝＋－＠]", cell)]
    assert all(line.startswith('"') and line.endswith('"') for line in written.split("\r\n")[:-1])


# ---------------------------------------------------------------- JUnit


def test_junit_counts():
    """
    A testsuite a learner, a testcase a check, outcomes as JUnit knows them.
    """
    root = ET.fromstring(render_junit(everyone()).encode())
    suites = {suite.get("name"): suite for suite in root}

    assert len(suites) == len(EVERYONE)
    stopped = suites["edsger"]
    assert [stopped.get(key) for key in ("tests", "failures", "errors", "skipped")] == [
        "17", "1", "0", "9"]  # fmt: skip
    assert suites["kurt"].get("errors") == "1"
    assert suites["barbara"].get("failures") == "1"
    assert suites["alan"].get("errors") == "1"
    assert root.get("tests") == str(len(root.findall(".//testcase")))
    assert root.get("skipped") == str(len(root.findall(".//skipped")))


@given(st.text(st.characters(codec=None), max_size=60))
def test_junit_takes_any_text(text):
    """
    Any text gives well-formed XML.
    """
    root = ET.fromstring(render_junit(samples.results([with_text(text)])).encode())

    assert len(root.findall(".//testcase")) == 4


# ---------------------------------------------------------------- the terminal


def printed(show, *arguments, **keywords) -> str:
    """What a colour terminal would be sent."""
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system="standard")
    show(*arguments, console=console, **keywords)
    return file.getvalue()


def without_colours(text: str) -> str:
    """The text without the colours that are ours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_check_summary():
    """
    A learner sees the mark, what was seen and what to do, where it stopped, and the report.
    """
    told = without_colours(printed(print_check, samples.stopped(), report=Path("out/report.html")))

    for phrase in ("edsger: 37 of 100", "failed data.example_shown", "Draw one image",
                   "not reached 9", "Stopped at cell 9: NameError", "out/report.html"):  # fmt: skip
        assert phrase in told.replace("\u00a0", " ")


def test_report_path_can_be_copied(monkeypatch):
    """
    The report's path is one line as it is, blanks and all, in a window of 40 columns.
    """
    monkeypatch.setenv("COLUMNS", "40")
    path = (
        "/home/somebody/lab 3/a  folder-with-a-long-name/out/learners/edsger-dijkstra/report.html"
    )
    file = io.StringIO()

    print_check(samples.stopped(), report=Path(path), console=Console(file=file))

    assert file.getvalue().splitlines()[-1] == f"Report: {path}"
    assert all(len(line) <= 40 for line in file.getvalue().splitlines()[:-1])


def test_class_summary():
    """
    An instructor sees every learner with mark and status, and the controls, first if wrong.
    """
    told = without_colours(printed(print_class, samples.sample_class()))
    wrong = without_colours(
        printed(print_class, samples.results([samples.good()], samples.WRONG_CONTROLS))
    )

    assert len(re.findall(r"graded|needs review|unreadable|not run", told)) == 24
    assert "Control reference: as expected" in told
    assert wrong.startswith("All marks are provisional")


def test_terminal_is_not_moved():
    """
    No learner's text styles the terminal, moves its cursor or is read as markup.
    """
    check = printed(print_check, samples.hostile(), report=Path("a\x1b[2Jb"))
    table = printed(print_class, everyone())

    for told in (check, table):
        assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e]", without_colours(told))
    assert "[bold red]markup[/]" in " ".join(without_colours(check).split())


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("name", "message", "phrase"),
    [
        ("NameError", "name 'x_train' is not defined", "the name x_train before"),
        ("ModuleNotFoundError", "No module named 'torch'", "The package torch is not installed"),
        ("ImportError", "cannot import name 'np_utils' from 'keras.utils'", "np_utils could not"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: '/home/me/x'", "me/x was"),
        ("ValueError", "cannot reshape array of size 4 into shape (60,784)", "shape of an array"),
        ("ValueError", "Input 0 of layer \"dense\" is incompatible with the layer: expected axis",
         "shape of an array"),
        ("ValueError", "Data cardinality is ambiguous", "shape of an array"),
        ("ValueError", "You must call `compile()` before using the model.", "was compiled"),
        ("ValueError", "odd", "right type but"),
        ("SyntaxError", "invalid syntax (2.py, line 1)", "could not read the cell"),
        ("IndentationError", "unexpected indent", "not indented"),
        ("MemoryError", "", "more memory"),
        ("ResourceExhaustedError", "OOM when allocating tensor", "more memory"),
        ("KeyboardInterrupt", "", "took too long"),
        ("KernelDied", "the kernel ended while this cell ran",
         "The whole Python process ended while this cell ran: exit(), a crash inside a library, "
         "or too little memory."),
        ("AttributeError", "'Sequential' object has no attribute 'predict_classes'",
         "asked a Sequential for predict_classes"),
        ("AttributeError", "'NoneType' object has no attribute 'shape'", "was None"),
        ("TypeError", "f() missing 1 required positional argument: 'x'", "number of arguments"),
        ("KeyError", "'acc'", "no entry 'acc'"),
        ("URLError", "<urlopen error [Errno -3] Temporary failure in name resolution>", "internet"),
        ("StdinNotImplementedError", "raw_input was called, but", "input()"),
        ("tensorflow.errors.InvalidArgumentError", "odd", "right type but"),
        ("WeirdError", "odd", "stopped with WeirdError"),
        (None, None, "The cell stopped."),
    ],
)  # fmt: skip
def test_plain_errors(name, message, phrase):
    """
    An error is told in words that a learner can act on.
    """
    assert phrase in plain_error(name, message)


def test_plain_stops():
    """
    A timeout and a cell that was never run have their own words.
    """
    assert "longer than it may" in plain_stop("timeout", None, None)
    assert "never run" in plain_stop("not-run", None, None)


@given(st.none() | st.text(max_size=30), st.none() | st.text(max_size=200))
def test_every_error_has_words(name, message):
    """
    Whatever the error is called, there is a sentence for it.
    """
    assert plain_error(name, message).strip()


def test_numbers_in_words():
    """
    Numbers, percentages, lists and articles read as they are said.
    """
    assert [number(v) for v in (97.0, 2.5, 0.0, -0.001, 1 / 3)] == ["97", "2.5", "0", "0", "0.33"]
    assert percent(0.9641) == "96.41\u00a0%"
    assert plural(1, "point") == "1\u00a0point"
    assert plural(0.5, "point") == "0.5\u00a0points"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert [with_article(i) for i in (4, 8, 11, 18, 80, 1)] == [
        "a 4", "an 8", "an 11", "an 18", "an 80", "a 1"]  # fmt: skip
    assert limit_text("notebook_s", 900.0) == ("whole notebook", "900\u00a0s")
    assert limit_text("odd_thing", 2.0) == ("odd thing", "2")
    assert one_line("a\n\tb \x1b[1mc") == "a b c"
    assert visible("x" * 50, limit=10) == "x" * 10 + " … (cut)"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(61.25, decimals=1), "61.3"),
        (number(0.125), "0.13"),
        (number(2.675), "2.68"),
        (number(-0.125), "-0.13"),
        (number(-0.004), "0"),
        (number(1e300), "1" + "0" * 300),
        (number(float("nan")), "nan"),
        (percent(0.625, decimals=0), "63\u00a0%"),
        (percent(0.00125), "0.13\u00a0%"),
        (percent(0.96405), "96.41\u00a0%"),
        (percent(1.0), "100.00\u00a0%"),
        (percent(float("inf")), "inf\u00a0%"),
    ],
)
def test_halves_go_up(shown, expected):
    """
    A half is rounded up, as a teacher does it, and by the digits that are written.
    """
    assert shown == expected


def test_halves_go_up_on_the_class_page():
    """
    A mean of 61.25 and five of eight are told as 61.3 and 63 %.
    """
    people = [samples.with_learner(samples.good(), learner=f"p{i}", score=s)
              for i, s in enumerate([100.0, 100.0, 70.0, 85.0, 75.0, 60.0, 0.0, 0.0])]  # fmt: skip
    for i in range(5, 8):
        people[i] = samples.with_learner(
            people[i], checks=samples.checks({"prep.scaling": ("failed", "0 to 255")})
        )
    page = Page(klass(samples.results(people)))

    assert "mean mark61.3" in page.text_of("dl", "key-figures")[0]
    assert page.text_of("span", "rate-value")[0] == "63 %"


# ---------------------------------------------------------------- drawings and pictures


@given(
    st.lists(st.none() | st.floats(), max_size=50), st.lists(st.none() | st.floats(), max_size=9)
)
def test_curves_stay_in_their_frame(values, reference):
    """
    Whatever the history holds, every point lies in the frame.
    """
    chart = charts.curve_chart("c", "loss", values, reference)

    for dot in (
        (*chart.yours.dots, *(chart.reference.dots if chart.reference else ())) if chart else ()
    ):
        assert charts.LEFT <= dot.x <= charts.RIGHT
        assert charts.TOP - 0.1 <= dot.y <= charts.BOTTOM + 0.1


def test_curve_breaks_where_a_value_is_missing():
    """
    A missing epoch breaks the line rather than being drawn through.
    """
    chart = charts.curve_chart("c", "loss", [3.0, None, 1.0, 0.5], None)

    assert chart.yours.path.count("M") == 2
    assert chart.rows[1].yours == "–"


def test_long_histories_are_thinned():
    """
    Ten thousand epochs give a page of a sensible size.
    """
    one = samples.good()
    curve = Curve(metric="loss", values=[1 / (i + 1) for i in range(10_000)])
    details = msgspec.structs.replace(one.details, curves=[curve])

    html = student(msgspec.structs.replace(one, details=details))
    assert "Some epochs are left out." in html
    assert len(html) < 300_000


@given(st.lists(st.floats(0, 1), min_size=1))
def test_histogram_counts_everybody(shares):
    """
    Every mark falls into exactly one class.
    """
    assert sum(bar.count for bar in charts.mark_histogram(shares).bars) == len(shares)


def test_histogram_borders():
    """
    A mark on a border belongs to the class above, the full mark to the last.
    """
    counts = [bar.count for bar in charts.mark_histogram([0.0, 0.1, 0.3, 0.7, 0.999, 1.0]).bars]

    assert counts == [1, 1, 0, 1, 0, 0, 0, 1, 0, 2]


def test_confusions():
    """
    The commonest confusions are told first, and the worst cell is the darkest.
    """
    table = charts.confusion_table([[90, 5, 0], [30, 60, 1], [0, 0, 99]])

    assert table.commonest[0] == "a 1 read as 0 (30\u00a0times)"
    assert table.commonest[2] == "a 1 read as 2 (1\u00a0time)"
    assert [cell.shade for cell in table.rows[1].cells] == ["miss-5", "hit", "miss-1"]
    assert charts.confusion_table([[1, 0], [0, 1]]).commonest == ()


def test_pictures_are_square_pngs():
    """
    A square row becomes a PNG of its pixels; another length becomes nothing.
    """
    address = picture(np.arange(784, dtype=np.uint64).astype(np.uint8))

    assert address.startswith("data:image/png;base64,iVBOR")
    assert picture(np.zeros(783, np.uint8)) is None
    assert pictures_of([3], lambda index: np.zeros(0, np.uint8)) == {}


# ---------------------------------------------------------------- files


def write_class(results: Results, out: Path) -> None:
    """All files of a class."""
    write_reports(
        results,
        workshop_title=samples.WORKSHOP_TITLE,
        reports_dir=samples.REPORTS_DIR,
        pristine_rows=samples.pristine_row,
        out=out,
        step_titles=samples.STEP_TITLES,
    )


def test_files_are_whole_and_the_same_twice(tmp_path):
    """
    Writing twice gives the same files and leaves nothing half-written beside them.
    """
    write_class(everyone(), tmp_path / "a")
    write_class(everyone(), tmp_path / "b")
    write_class(everyone(), tmp_path / "b")

    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert {path.name for path in first} == {
        "index.html", "report.html", "gradebook.csv", "junit.xml"}  # fmt: skip


@pytest.mark.parametrize("learner", ["..", ".", "", "a/b", "a\\b", "/etc/x", "a\0b"])
def test_ids_that_are_no_file_names_are_refused(tmp_path, learner):
    """
    A learner's id cannot lead out of the output folder.
    """
    one = msgspec.structs.replace(samples.good(), learner=learner)

    with pytest.raises(OutputError, match="learner"):
        write_class(samples.results([one]), tmp_path)


def test_unwritable_output(tmp_path):
    """
    A file where a folder is needed is an error that an operator can act on.
    """
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match="cannot be written"):
        write_class(everyone(), tmp_path / "file")


# ---------------------------------------------------------------- samples


def scrubbed(html: str) -> str:
    """A page without what differs between versions of Pillow: the bytes of the pictures."""
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:image/png;base64,…", html)


@pytest.mark.parametrize("name", ["index.html", "learners/grace/report.html"])
def test_samples(name, tmp_path):
    """
    The sample pages are what the code makes now.
    """
    write_class(samples.sample_class(), tmp_path)
    made, kept = tmp_path / name, samples.SAMPLES / name
    expected = kept.read_text("utf-8") if kept.exists() else ""

    if scrubbed(made.read_text("utf-8")) != scrubbed(expected):
        pytest.fail(f"{kept.name} differs. Look at {made}, then accept it: cp {made} {kept}")
