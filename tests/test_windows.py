"""What works on Windows, as far as a Python that lacks what Windows lacks can tell."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from conftest import RIGHT_CELLS, TINY

from nbassay.inside.channel import frame
from nbassay.live.protocol import ASK, Answer, Question, Welcome, read_frame

PROGRAM = Path(__file__).with_name("windows.py")


def on_windows(*arguments, cwd=TINY, stdin=b""):
    """Run `windows.py`."""
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)],
        input=stdin,
        cwd=cwd,
        capture_output=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def tiles(tmp_path):
    """A copy of the tiny workshop; the tests' own settings lie above the original."""
    return shutil.copytree(TINY, tmp_path / "tiles")


@pytest.fixture
def graded(tiles, nbassay):
    """A class that was graded where notebooks can be run."""
    done = nbassay("grade", "submissions/right.ipynb", "-o", "graded", cwd=tiles)
    assert done.returncode == 0, done.stderr
    return tiles / "graded"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        *((one,) for one in ("grade", "check", "kit", "data", "lab", "regress", "score", "doctor")),
    ],
    ids=lambda arguments: " ".join(arguments) or "nbassay",
)
def test_every_command_tells_what_it_does(arguments):
    """
    The command line begins, and each command's help is there.
    """
    done = on_windows("cli", *arguments, "--help")

    assert done.returncode == 0, done.stderr.decode()
    assert b"Usage: nbassay" in done.stdout


def test_data_and_notebook_are_made(tmp_path):
    """
    ``nbassay data`` unpacks the lab's files, ``lab to-notebook`` makes the starter notebook.
    """
    unpacked = on_windows("cli", "data", tmp_path / "data")
    made = on_windows("cli", "lab", "to-notebook", "lab/lab.md", "-o", tmp_path / "lab.ipynb")

    assert unpacked.returncode == made.returncode == 0, (unpacked.stderr + made.stderr).decode()
    assert len(list((tmp_path / "data").iterdir())) == 2
    assert (tmp_path / "lab.ipynb").read_text("utf-8").startswith("{")


@pytest.mark.parametrize(
    "command", ["grade submissions -o", "check submissions/right.ipynb -o", "kit"]
)
def test_what_runs_notebooks_says_what_to_install(command, tmp_path):
    """
    Where notebooks are to be run, it ends with 3, names WSL2 and leaves nothing.
    """
    done = on_windows("cli", *command.split(), tmp_path / "out")

    assert done.returncode == 3, done.stderr.decode()
    assert b"WSL2" in done.stderr
    assert b"your notebook runs with your own rights" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_doctor_says_what_is_there():
    """
    ``nbassay doctor`` finds versions and data, and no sandbox.
    """
    done = on_windows("cli", "doctor")

    assert done.returncode == 3, done.stderr.decode()
    assert b"bubblewrap is for Linux; this is win32" in done.stdout
    assert b"digests match" in done.stdout


@pytest.mark.kernel
def test_a_graded_class_is_scored_shown_and_made_a_kit_of(tiles, graded):
    """
    What was graded elsewhere is scored and rendered again, and a kit takes its numbers from it.
    """
    scored = on_windows("cli", "score", graded, cwd=tiles)
    shown = on_windows("cli", "report", graded, cwd=tiles)
    kit = on_windows("cli", "kit", "kit", "--from", graded, cwd=tiles)

    for done in (scored, shown, kit):
        assert done.returncode == 0, done.stderr.decode()
    assert b"100" in scored.stdout
    assert (tiles / "kit" / "reference" / "sheet.json").is_file()


def test_the_judge_answers():
    """
    The process behind ``%assay`` reads the lab and answers a question.
    """
    question = frame(ASK, msgspec.json.encode(Question()))

    done = on_windows("judge", TINY, "00" * 32, stdin=question)

    assert done.returncode == 0, done.stderr.decode()
    told = io.BytesIO(done.stdout)
    welcome, answer = (read_frame(told)[1] for _ in range(2))
    assert msgspec.json.decode(welcome, type=Welcome).problem is None
    assert "No check is reached yet" in msgspec.json.decode(answer, type=Answer).text


@pytest.mark.kernel
def test_the_notebook_is_checked(tmp_path):
    """
    ``%load_ext nbassay`` and ``%assay`` work in an IPython shell, and see the learner's work.
    """
    unpacked = on_windows("cli", "data", tmp_path)
    cells = ("%load_ext nbassay", f"%assay lab {TINY}", *RIGHT_CELLS, "%assay")

    done = on_windows("cells", *cells, cwd=tmp_path)

    assert unpacked.returncode == 0, unpacked.stderr.decode()
    assert done.stdout.count(b"  passed  ") == 4, done.stdout + done.stderr
    assert b"before nbassay was loaded" not in done.stdout
