"""run.json tells where the seconds went, and `--profile` prints it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Nbassay, write_notebook
from test_classrun import Told
from test_classscore import lay_class

from nbassay.classrun import Task, run_tasks
from nbassay.errors import OutputError
from nbassay.files import MARK
from nbassay.inside.channel import TOLD
from nbassay.places import here
from nbassay.progress import LineProgress, time_left
from nbassay.records import Ending
from nbassay.sandbox import Box, OnFrame
from nbassay.stages import STAGES, Stages, read_stages
from nbassay.submissions import find_submissions
from nbassay.workshop import read_workshop


def test_a_second_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What a stage inside another takes is not counted as that other's, too.
    """
    clock = iter([0.0, 10.0, 13.0, 20.0, 30.0, 31.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stages = Stages()

    with stages.stage("check"):  # from 0
        with stages.stage("measure"):  # 10 to 13
            pass
        with pytest.raises(ValueError, match="too large"), stages.stage("measure"):  # 20 to 30
            raise ValueError("too large")
    # to 31

    assert stages.seconds == {"measure": 13.0, "check": 18.0}


def test_seconds_are_added_to_what_run_json_tells(tmp_path: Path) -> None:
    """
    Stages add up from call to call, nothing else in run.json changes, and no results do.
    """
    lay_class(tmp_path, read_workshop(TINY), 3)
    before = json.loads((tmp_path / MARK).read_bytes())
    stages = Stages()
    stages.add({"render": 1.5, "run": 2.0})

    stages.keep(tmp_path)
    stages.keep(tmp_path)

    assert read_stages(tmp_path) == {"run": 4.0, "render": 3.0}
    after = json.loads((tmp_path / MARK).read_bytes())
    assert after == {**before, "stages": {"run": 4.0, "render": 3.0}}


def test_a_spoiled_record_is_told(tmp_path: Path) -> None:
    """
    Seconds that are none are an error that says where, not a table of nonsense.
    """
    (tmp_path / MARK).write_text('{"stages": {"run": "long"}}')

    with pytest.raises(OutputError, match=r"run\.json: stages"):
        read_stages(tmp_path)


def test_profile_prints_the_stages(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    `score` and `report` tell their stages on standard error with --profile, and keep them without.
    """
    lay_class(tmp_path, read_workshop(TINY), 3)

    scored = nbassay("score", tmp_path, "--profile", "--json")
    reported = nbassay("report", tmp_path)
    again = nbassay("report", tmp_path, "--profile")

    assert len(json.loads(scored.stdout)["submissions"]) == 3
    assert list(read_stages(tmp_path)) == ["read", "check", "render"]
    assert STAGES["check"] in scored.stderr
    assert STAGES["render"] not in scored.stderr + reported.stderr
    assert STAGES["render"] in again.stderr


class Timed:
    """A sandbox whose clock says that notebooks take two seconds to start and three to run."""

    name = mode = "timed"
    is_isolated = True

    def __init__(self) -> None:
        self.clock = 0.0

    def run(self, box: Box, on_frame: OnFrame, *, should_stop: Callable[[], bool]) -> Ending:
        self.clock += 2
        on_frame(TOLD, b"up")
        self.clock += 3
        on_frame(TOLD, b"down")
        return Ending(reason="finished", message=None, seconds=5.0, peak_memory_bytes=0)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("jobs", "second", "runs"),
    [(1, "2", 2), (1, "1", 1), (2, "1", 1)],
    ids=["two notebooks", "the same code once", "a slot that waits for the same code"],
)
def test_every_second_of_a_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, second: str, runs: int
) -> None:
    """
    Starting and running are told apart, and all stages together are the seconds of all slots.
    """
    for name, source in {"ann": "1", "zoe": second}.items():
        write_notebook(tmp_path / "class" / f"{name}.ipynb", source)
    tasks = [
        Task(item=item, folder=tmp_path / "out" / item.learner)
        for item in find_submissions([tmp_path / "class"])
    ]
    workshop, sandbox, stages = read_workshop(TINY), Timed(), Stages()
    monkeypatch.setattr("time.monotonic", lambda: sandbox.clock)

    with here(workshop, sandbox) as place:
        run_tasks(tasks, workshop=workshop, place=place, jobs=jobs, progress=Told(), stages=stages)

    assert stages.seconds.keys() == {"wait", "start", "run", "collect", "measure"}
    assert stages.seconds["start"] == 2 * runs
    assert stages.seconds["run"] == 3 * runs
    assert sum(stages.seconds.values()) == jobs * sandbox.clock


LEFT = {
    "nothing": (100.0, 10, 10, ""),
    "less than a minute": (50.0, 10, 20, ""),
    "minutes": (60.0, 2, 26, ", about 12 min left"),
    "hours": (600.0, 1, 22, ", about 4 h left"),
}


@pytest.mark.parametrize(("seconds", "done", "total", "words"), LEFT.values(), ids=LEFT)
def test_the_time_left_is_told(seconds: float, done: int, total: int, words: str) -> None:
    """
    A line of progress says how long the rest takes, once that is worth saying.
    """
    assert time_left(seconds, done, total - done) == words


def test_what_was_run_before_says_nothing_of_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A class that goes on where it stopped tells the time of what is still to run.
    """
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    told = LineProgress()
    told.start(24)
    for number in range(12):
        clock[0] += 100.0
        told.done(f"kept-{number}", "already run" if number else "run by an earlier class")
    for number in range(2):
        clock[0] += 30.0
        told.done(f"new-{number}", "done")

    lines = capsys.readouterr().err.splitlines()
    assert lines[11] == "[12/24] kept-11: already run"
    assert lines[13] == "[14/24, about 5 min left] new-1: done"
