"""A regression's report for a terminal, a pull request and GitHub's annotations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nbassay.regress.report import KINDS, LEARNER, CellChange, Finding, Report
from nbassay.reporting.text import one_line, plural, visible

MOST_UNCHECKED = 8
"""Lines with unchecked numbers that a terminal shows."""


def verdict(report: Report) -> str:
    """The report in a sentence."""
    hurting = len(report.hurting)
    style = len(report.findings) - hurting
    held = sum(one.outcome == "holds" for one in report.claims)
    what = (
        f"{plural(hurting, 'finding')} that {'hurts' if hurting == 1 else 'hurt'} a learner"
        if hurting
        else "nothing that hurts a learner"
    )
    return (
        f"{report.page}: {what}, {plural(style, 'matter')} of style; "
        f"{held} of {plural(len(report.claims), 'claim')} hold, "
        f"{sum(one.outcome == 'passed' for one in report.checks)} of "
        f"{plural(len(report.checks), 'check')} passed"
    )


def environment_line(report: Report) -> str:
    """With what it ran."""
    return ", ".join(f"{name} {version}" for name, version in report.environment.items())


def print_report(report: Report, console: Console) -> None:
    """Print the report as lines that an editor can jump to."""
    for severity, title in (("learner", "Hurts a learner"), ("style", "Style")):
        found = [one for one in report.findings if one.severity == severity]
        if not found:
            continue
        console.print(Text(title, style="bold red" if severity == LEARNER else "bold"))
        for one in found:
            line = Text(f"  {one.file}:{one.line}: ", style="cyan")
            line.append(f"{one.kind}: ", style="bold")
            line.append(one_line(one.text))
            console.print(line, highlight=False, soft_wrap=True)
            if one.change:
                console.print(
                    Text(f"      change: {one_line(one.change)}", style="dim"),
                    highlight=False,
                    soft_wrap=True,
                )
    _print_against(report, console)
    open_claims = [one for one in report.claims if one.outcome == "not-reached"]
    if open_claims:
        console.print(Text("Claims that could not be asked", style="bold"))
        for claim in open_claims:
            console.print(
                Text(f"  {claim.file}:{claim.line}: {one_line(claim.claim)}: {claim.saw}"),
                highlight=False,
                soft_wrap=True,
            )
    if report.unchecked:
        console.print(Text("Numbers that no claim is about", style="bold"))
        for unchecked in report.unchecked[:MOST_UNCHECKED]:
            console.print(
                Text(f"  {unchecked.file}:{unchecked.line}: {', '.join(unchecked.numbers)}"),
                highlight=False,
                soft_wrap=True,
            )
        if len(report.unchecked) > MOST_UNCHECKED:
            console.print(
                Text(f"  … and on {len(report.unchecked) - MOST_UNCHECKED} more lines (--json)")
            )
    console.print(Text(verdict(report), style="bold"), highlight=False, soft_wrap=True)
    console.print(
        Text(f"{environment_line(report)}; {report.seconds:.0f} s", style="dim"), highlight=False
    )


def _print_against(report: Report, console: Console) -> None:
    found = report.against
    if found is None:
        return
    console.print(
        Text(f"Against {found.old}: {found.summary}", style="bold"), highlight=False, soft_wrap=True
    )
    for change in found.cells:
        console.print(Text(f"  {_change(change)}", style="cyan"), highlight=False, soft_wrap=True)
        for line in change.diff:
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            console.print(Text(f"    {visible(line)}", style=style), highlight=False)
    for effect in found.effects:
        console.print(Text(f"  {one_line(effect)}"), highlight=False, soft_wrap=True)


def _change(change: CellChange) -> str:
    """Which cell, in words."""
    where = f"{change.file}:{change.line}: "
    if change.before is None:
        return f"{where}cell {change.after} is new"
    if change.after is None:
        return f"{where}cell {change.before} is gone"
    moved = "" if change.before == change.after else f" (was {change.before})"
    return f"{where}cell {change.after}{moved} changed"


def markdown(report: Report) -> str:
    """The report as a comment on a pull request."""
    lines = [f"### {'❌' if report.hurting else '✅'} {_cell(verdict(report))}", ""]
    for severity, title in (("learner", "Hurts a learner"), ("style", "Style")):
        found = [one for one in report.findings if one.severity == severity]
        if found:
            lines += [f"**{title}**", "", "| where | what | change |", "| --- | --- | --- |"]
            lines += [
                f"| `{one.file}:{one.line}` | **{one.kind}**: {_cell(one.text)} | "
                f"{f'`{_code(one.change)}`' if one.change else ''} |"
                for one in found
            ]
            lines.append("")
    if report.against is not None:
        lines += [f"**Against `{_code(report.against.old)}`:** {_cell(report.against.summary)}", ""]
        lines += [f"* {_cell(effect)}" for effect in report.against.effects]
        for change in report.against.cells:
            fence = "`" * (1 + max(3, *(_longest_run(line) for line in change.diff), 0))
            lines += ["", f"{_cell(_change(change))}", "", f"{fence}diff", *change.diff, fence]
        lines.append("")
    if report.claims:
        lines += _details(
            f"{plural(len(report.claims), 'claim')}",
            ["| where | claim | | saw |", "| --- | --- | --- | --- |"]
            + [
                f"| `{one.file}:{one.line}` | `{_code(one.claim)}` | {one.outcome} | "
                f"{_cell(one.saw)} |"
                for one in report.claims
            ],
        )
    if report.unchecked:
        lines += _details(
            "numbers that no claim is about",
            [f"* `{one.file}:{one.line}`: {', '.join(one.numbers)}" for one in report.unchecked],
        )
    lines.append(f"<sub>{environment_line(report)}; {report.seconds:.0f} s</sub>")
    return "\n".join(lines) + "\n"


def _longest_run(line: str) -> int:
    """Backticks in a row."""
    return max((len(run) for run in re.findall("`+", line)), default=0)


def _details(title: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>", ""]


def github_annotations(findings: Sequence[Finding], *, base: Path) -> Iterator[str]:
    """
    Commands that make GitHub show each finding beside its line.

    Args:
        base: The repository's folder, which paths are told from.
    """
    for one in findings:
        path = Path(one.file).resolve()
        file = path.relative_to(base).as_posix() if path.is_relative_to(base) else one.file
        level = "error" if one.severity == LEARNER else "warning"
        title = _property(f"{one.kind}: {KINDS[one.kind].title}")
        text = _escaped(one.text + (f" [change: {one.change}]" if one.change else ""))
        yield f"::{level} file={_property(file)},line={one.line},title={title}::{text}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Text for a cell of a table; nothing of it is markup."""
    shown = one_line(text)
    for character in "\\`*_[]<>|#":
        shown = shown.replace(character, f"\\{character}")
    return shown


def _code(text: str) -> str:
    return one_line(text).replace("`", "'").replace("|", "\\|")
