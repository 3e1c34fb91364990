"""
Submissions per minute beside other tools, in one run and in turn, on the same notebooks.

    python benchmarks/speed.py -o OUT [--tools PREFIX] [--sizes 1,8] [--rounds 1] [--figures FILE]

The notebooks are the reference with a seed and a number of its own each. Their last cell prints a
digest of the trained weights: a tool that trains other weights is told. PREFIX is an environment
that holds ``nbgrader``, ``otter-grader`` and ``nbconvert`` beside the lab's packages; what it does
not hold is left out and told. Figures compare within one run only: machines differ, and one
machine differs from quarter of an hour to quarter of an hour. So tools take turns, in every second
round the other way round: in each round those that are given notebooks one by one run a part of the
class, and those that are given a class run all of it; of these the mean counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import nbformat
from bench import ROOT, Timings, origin, this_machine, write_figures
from costs import Cost, cost_of
from warm_forks import CELL, KEEP_IN

from nbassay.kept_controls import CACHE_VARIABLE
from nbassay.pristine import unpack_data
from nbassay.records import Record
from nbassay.workshop import Workshop, read_workshop

SEED = "import keras\nkeras.utils.set_random_seed({seed})"
DIGEST = """import hashlib
told = "weights " + hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
print(told)"""
KEEP = f"""import os, pathlib
pathlib.Path(os.environ["{KEEP_IN}"]).write_text(told)"""
"""For what leaves no executed notebook; a cell that asks for the environment gets no warm start."""
CACHE = "cache"
"""What nbassay keeps from class to class: of this benchmark's own."""
LIBRARIES = ("tensorflow", "keras", "numpy")
TOLD = re.compile(r"weights ([0-9a-f]{64})")
FAST = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
COMPILED = "model.compile("
FAST_COMPILED = "model.compile(steps_per_execution=50, "
NBGRADER = """c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.course_id = "speed"
c.ExecutePreprocessor.timeout = 600
"""
OTTER_TEST = """OK_FORMAT = True
test = {"name": "q", "points": 1, "suites": [{"cases": [{"code": ">>> 1\\n1"}], "type": "doctest"}]}
"""


class Timed(Record, frozen=True, kw_only=True):
    """One tool on one class."""

    tool: str
    submissions: int
    cost: Cost
    weights: list[str]
    """Digest of each submission's trained weights, in the order of submissions."""


class Figures(Timings, frozen=True, kw_only=True):
    """``benchmarks/figures/speed.json``."""

    schema: Literal["nbassay/benchmark-speed/1"]
    rounds: int
    tools: dict[str, str]
    """Packages of PREFIX and their versions."""
    timed: list[Timed]


def write_notebooks(folder: Path, workshop: Workshop, count: int) -> list[Path]:
    """*count* right submissions, each with code of its own, beside the lab's raw files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = []
    for number in range(count):
        notebook = nbformat.read(
            workshop.path(workshop.manifest.reference), as_version=nbformat.NO_CONVERT
        )
        notebook.cells = [
            nbformat.v4.new_code_cell(SEED.format(seed=number)),
            *notebook.cells,
            nbformat.v4.new_code_cell(DIGEST),
        ]
        path = folder / f"learner-{number}.ipynb"
        nbformat.write(notebook, path)
        written.append(path)
    return written


def added(costs: list[Cost]) -> Cost:
    """Of commands that ran one after the other."""
    return Cost(
        seconds=round(sum(cost.seconds for cost in costs), 2),
        processor_seconds=round(sum(cost.processor_seconds for cost in costs), 2),
        peak_mb=max(cost.peak_mb for cost in costs),
    )


def mean(costs: list[Cost]) -> Cost:
    """Of one command that ran several times."""
    return Cost(
        seconds=round(statistics.mean(cost.seconds for cost in costs), 2),
        processor_seconds=round(statistics.mean(cost.processor_seconds for cost in costs), 2),
        peak_mb=max(cost.peak_mb for cost in costs),
    )


def path_of(tools: Path) -> dict[str, str]:
    """The environment in which programs of *tools* find each other."""
    return {**os.environ, "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def digest_in(path: Path) -> str:
    """What the last cell printed, in an executed notebook or a text."""
    found = TOLD.search(path.read_text("utf-8"))
    return found.group(1) if found else f"none in {path.name}"


def by_nbassay(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    """With the controls' evidence kept from the class before."""
    out = work / "graded"
    cost = cost_of(
        [
            *(sys.executable, "-m", "nbassay", "grade", *map(str, notebooks), "-o", str(out)),
            *("--workshop", str(ROOT), "-q"),
        ],
        env={**os.environ, CACHE_VARIABLE: str(work.parent / CACHE)},
    )
    return cost, [digest_in(out / "learners" / one.stem / "executed.ipynb") for one in notebooks]


def by_new_nbassay(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    """With nothing kept: the controls run, too."""
    shutil.rmtree(work.parent / CACHE, ignore_errors=True)
    return by_nbassay(notebooks, work, tools)


def by_nbgrader(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    root = work / "course"
    (root / "source" / "lab").mkdir(parents=True)
    (root / "nbgrader_config.py").write_text(NBGRADER.format(root=str(root)))
    nbformat.write(nbformat.v4.new_notebook(), root / "source" / "lab" / "lab.ipynb")
    for one in notebooks:
        folder = root / "submitted" / one.stem / "lab"
        folder.mkdir(parents=True)
        shutil.copy(one, folder / "lab.ipynb")
        for file in (work / "data").iterdir():
            (folder / file.name).symlink_to(file)
    program = str(tools / "bin" / "nbgrader")
    env = path_of(tools)
    cost_of([program, "generate_assignment", "lab", "--force"], cwd=root, env=env)
    cost = cost_of([program, "autograde", "lab"], cwd=root, env=env)
    return cost, [
        digest_in(root / "autograded" / one.stem / "lab" / "lab.ipynb") for one in notebooks
    ]


def by_otter(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    folder = work / "otter"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "q.py").write_text(OTTER_TEST)
    (folder / "requirements.txt").write_text("")
    for file in (work / "data").iterdir():
        shutil.copy(file, folder)
    program = str(tools / "bin" / "otter")
    cost_of(
        [
            *(program, "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment"),
            *(file.name for file in (work / "data").iterdir()),
        ],
        cwd=folder,
        env=path_of(tools),
    )
    costs, weights = [], []
    for one in notebooks:
        out = folder / one.stem
        out.mkdir()
        notebook = nbformat.read(one, as_version=nbformat.NO_CONVERT)
        notebook.cells.append(nbformat.v4.new_code_cell(KEEP))
        nbformat.write(notebook, folder / one.name)
        costs.append(
            cost_of(
                [
                    *(
                        program,
                        "run",
                        str(folder / one.name),
                        "-a",
                        "autograder.zip",
                        "-o",
                        str(out),
                    ),
                    *("--no-logo", "--debug"),
                ],
                cwd=folder,
                env={**path_of(tools), KEEP_IN: str(out / "weights.txt")},
            )
        )
        weights.append(digest_in(out / "weights.txt"))
    return added(costs), weights


def by_nbconvert(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    costs, weights = [], []
    for one in notebooks:
        beside = shutil.copy(one, work / "data")  # it runs in the folder of the notebook
        target = work / f"executed-{one.name}"
        command = [
            *(str(tools / "bin" / "python"), "-m", "nbconvert", "--to", "notebook", "--execute"),
            *(str(beside), "--output", str(target), "--ExecutePreprocessor.timeout=600"),
        ]
        costs.append(cost_of(command, env=path_of(tools)))
        weights.append(digest_in(target))
    return added(costs), weights


def write_scripts(notebooks: list[Path], work: Path, *, is_fast: bool) -> list[Path]:
    """The code cells of each notebook as a script; weights go into the .txt beside it."""
    written = []
    for one in notebooks:
        notebook = nbformat.read(one, as_version=nbformat.NO_CONVERT)
        cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        source = CELL.join([*cells, KEEP])
        script = work / f"{one.stem}.py"
        script.write_text(source.replace(COMPILED, FAST_COMPILED) if is_fast else source, "utf-8")
        written.append(script)
    return written


def _by_script(notebooks: list[Path], work: Path, *, is_fast: bool) -> tuple[Cost, list[str]]:
    costs, weights = [], []
    for script in write_scripts(notebooks, work, is_fast=is_fast):
        told = script.with_suffix(".txt")
        env = {**os.environ, "MPLBACKEND": "agg", KEEP_IN: str(told), **(FAST if is_fast else {})}
        costs.append(cost_of([sys.executable, str(script)], cwd=work / "data", env=env))
        weights.append(digest_in(told))
    return added(costs), weights


def by_script(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    return _by_script(notebooks, work, is_fast=False)


def by_fast_script(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    return _by_script(notebooks, work, is_fast=True)


def by_warm_forks(notebooks: list[Path], work: Path, tools: Path) -> tuple[Cost, list[str]]:
    scripts = write_scripts(notebooks, work, is_fast=True)
    program = str(Path(__file__).with_name("warm_forks.py"))
    jobs = str(len(os.sched_getaffinity(0)))
    cost = cost_of(
        [sys.executable, program, jobs, *map(str, scripts)],
        cwd=work / "data",
        env={**os.environ, "MPLBACKEND": "agg", **FAST},
    )
    return cost, [digest_in(script.with_suffix(".txt")) for script in scripts]


Tool = Callable[[list[Path], Path, Path], tuple[Cost, list[str]]]
ALL_AT_ONCE = (by_nbgrader, by_warm_forks, by_new_nbassay, by_nbassay)
"""Are given a class; the others are given one notebook after the other."""
TOOLS: dict[str, tuple[Tool, str | None]] = {
    "nbgrader autograde": (by_nbgrader, "nbgrader"),
    "otter run": (by_otter, "otter"),
    "nbconvert --execute": (by_nbconvert, "jupyter-nbconvert"),
    "plain script": (by_script, None),
    "plain script, one thread, 50 steps a call": (by_fast_script, None),
    "such scripts in forks of a warm process": (by_warm_forks, None),
    "nbassay grade, controls too": (by_new_nbassay, None),
    "nbassay grade": (by_nbassay, None),
}
"""Tool → how it is run, and the program of PREFIX that it needs."""


def table(timed: list[Timed]) -> str:
    """The table of ``docs/performance.md``: × is the value before it, divided by nbassay's."""
    lines = [
        "| submissions | tool | seconds | submissions a minute | × | processor seconds each | × "
        "| memory | × | same weights |",
        "| --: | :-- | --: | --: | --: | --: | --: | --: | --: | :-- |",
    ]
    ours = {one.submissions: one for one in timed if one.tool == "nbassay grade"}
    for one in sorted(timed, key=lambda each: each.submissions):
        count, cost = one.submissions, one.cost
        speed, processor, memory, same = "", "", "", ""
        if count in ours:
            base = ours[count].cost
            speed = f"{base.seconds / cost.seconds:.2f}"
            processor = f"{cost.processor_seconds / base.processor_seconds:.2f}"
            memory = f"{cost.peak_mb / base.peak_mb:.2f}"
            same = "yes" if one.weights == ours[count].weights else "no"
        lines.append(
            f"| {count} | {one.tool} | {cost.seconds:.1f} | {60 * count / cost.seconds:.1f} "
            f"| {speed} | {cost.processor_seconds / count:.1f} | {processor} "
            f"| {cost.peak_mb:,.0f} MB | {memory} | {same} |"
        )
    return "\n".join(lines) + "\n"


def versions_of_tools(prefix: Path) -> dict[str, str]:
    """Names and versions of what *prefix* holds of the tools, and of the lab's libraries there."""
    asked = """
import importlib.metadata as metadata, json, sys
there = {one.metadata["Name"]: one.version for one in metadata.distributions()}
print(json.dumps({name: there[name] for name in sys.argv[1:] if name in there}))
"""
    names = ("nbgrader", "otter-grader", "nbconvert", *LIBRARIES)
    told = subprocess.run(
        [str(prefix / "bin" / "python"), "-c", asked, *names], check=True, capture_output=True
    )
    return {str(name): str(version) for name, version in json.loads(told.stdout).items()}


def time_in_turn(
    tools: Mapping[str, Tool], size: int, rounds: int, out: Path, prefix: Path
) -> Iterator[Timed]:
    """Time all *tools* on one class of *size*."""
    workshop = read_workshop(ROOT)
    costs: dict[str, list[Cost]] = {name: [] for name in tools}
    weights: dict[str, dict[int, str]] = {name: {} for name in tools}
    for turn in range(min(rounds, size)):
        for name, tool in list(tools.items())[:: -1 if turn % 2 else 1]:
            work = out / f"{size}-{turn}-{name.replace(' ', '-')}"
            shutil.rmtree(work, ignore_errors=True)
            notebooks = write_notebooks(work / "class", workshop, size)
            unpack_data(workshop, work / "data")
            step = 1 if tool in ALL_AT_ONCE else min(rounds, size)
            part = range(turn % step, size, step)
            cost, told = tool([notebooks[number] for number in part], work, prefix)
            print(f"{size} submissions, round {turn + 1}, {name}: {cost}", file=sys.stderr)
            costs[name].append(cost)
            weights[name].update(zip(part, told, strict=True))
    for name, tool in tools.items():
        yield Timed(
            tool=name,
            submissions=size,
            cost=mean(costs[name]) if tool in ALL_AT_ONCE else added(costs[name]),
            weights=[weight for _, weight in sorted(weights[name].items())],
        )


def main() -> int:
    """Time every tool on classes of every size."""
    parser = argparse.ArgumentParser(description="Submissions a minute beside other tools.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--tools", type=Path, default=Path(sys.prefix), help="an environment")
    parser.add_argument("--sizes", default="1,8")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", action="append", choices=[*TOOLS], help="may be given again")
    parser.add_argument("--figures", type=Path, help="file to write")
    given = parser.parse_args()
    workshop = read_workshop(ROOT)
    tools: dict[str, Tool] = {}
    for name, (tool, program) in TOOLS.items():
        if given.only and name not in given.only:
            continue
        if program is not None and not (given.tools / "bin" / program).exists():
            print(f"{name}: left out, {given.tools} has no {program}", file=sys.stderr)
            continue
        tools[name] = tool
    out, prefix = given.output.resolve(), given.tools.resolve()
    there, here = versions_of_tools(prefix), versions_of_tools(Path(sys.prefix))
    if any(there.get(name) != here[name] for name in LIBRARIES):
        sys.exit(f"{prefix}: expected the libraries of this environment, {here}, found {there}")
    timed: list[Timed] = []
    for size in map(int, given.sizes.split(",")):
        timed += time_in_turn(tools, size, given.rounds, out, prefix)
    print(table(timed), end="")
    if given.figures is not None:
        figures = Figures(
            schema="nbassay/benchmark-speed/1",
            **origin(workshop, "python benchmarks/speed.py -o OUT --tools PREFIX"),
            **this_machine(),
            rounds=given.rounds,
            tools={name: there[name] for name in there if name not in LIBRARIES},
            timed=timed,
        )
        write_figures(given.figures, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
