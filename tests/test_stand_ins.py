"""Commands, downloads and paths that a notebook finds answered without a network."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Nbassay, write_notebook

from nbassay.inside.stand_ins.__main__ import COMMANDS
from nbassay.inside.stand_ins.lab_files import FOLDER, lab_file

CONTENT = b"sixteen levels each"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder of lab data: one file, raw and packed."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "tiles-idx3-ubyte").write_bytes(CONTENT)
    (folder / "tiles-idx3-ubyte.gz").write_bytes(gzip.compress(CONTENT))
    return folder


@pytest.fixture
def work(tmp_path: Path, lab: Path) -> Path:
    """A working folder with the lab's data."""
    return Path(shutil.copytree(lab, tmp_path / "work"))


def run(command: str, *arguments: str, work: Path, lab: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "nbassay.inside.stand_ins", command, *arguments],
        cwd=work,
        env={**os.environ, FOLDER: str(lab)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


SUCCEED = {
    "pip, installed": ("pip", "install", "numpy"),
    "pip, version that is there": ("pip", "install", "-q", "numpy>=1.20", "-U"),
    "pip, options with values": ("pip", "install", "-i", "https://x.org/simple", "numpy"),
    "pip, a marker of another system": ("pip3", "install", "pywin32; sys_platform == 'win32'"),
    "pip, a module's name": ("pip", "install", "PIL"),
    "pip, not about packages to install": ("pip", "--version"),
    "conda, installed": ("conda", "install", "-y", "-c", "conda-forge", "numpy"),
    "conda, version": ("mamba", "install", f"python={sys.version_info[0]}", "pytest=*"),
    "conda, activate": ("conda", "activate", "tf"),
    "conda, everything": ("conda", "update", "--all", "-y"),
    "conda, its version": ("conda", "--version"),
    "wget, the lab's file": ("wget", "-q", "https://x.org/mnist/tiles-idx3-ubyte.gz"),
    "wget, into a folder": ("wget", "-nc", "-P", "new", "https://x.org/tiles-idx3-ubyte.gz"),
    "wget, named by its target": ("wget", "-O", "tiles-idx3-ubyte", "https://x.org/uc?id=17"),
    "curl, remote name": ("curl", "-fsSLO", "https://x.org/tiles-idx3-ubyte.gz"),
    "wget, letters together": ("wget", "-qnc", "https://x.org/tiles-idx3-ubyte.gz"),
    "wget, named agent": ("wget", "--user-agent", "A b/5", "https://x.org/tiles-idx3-ubyte"),
    "curl, letters together": ("curl", "-4LJO", "https://x.org/tiles-idx3-ubyte.gz"),
    "curl, headers": ("curl", "--referer", "https://y/z", "-O", "https://x.org/tiles-idx3-ubyte"),
    "curl, new folders": (
        *("curl", "--create-dirs", "-o", "a/b/tiles.gz"),
        "https://x.org/tiles-idx3-ubyte.gz",
    ),
    "curl, to a file": ("curl", "-L", "https://x.org/tiles-idx3-ubyte.gz", "-o", "t.gz"),
    "gunzip, all": ("gunzip", "tiles-idx3-ubyte.gz"),
    "gunzip, forced": ("gunzip", "-kf", "tiles-idx3-ubyte.gz"),
    "gzip -d": ("gzip", "-d", "tiles-idx3-ubyte.gz"),
    "gzip, packing": ("gzip", "-kf", "own.txt"),
}
FAIL = {
    "pip, not installed": ("pip", "install", "numpy", "no-such-package"),
    "pip, another version": ("pip", "install", "numpy==1.0"),
    "pip, an address": ("pip", "install", "git+https://x.org/repository"),
    "pip, uninstall": ("pip", "uninstall", "-y", "numpy"),
    "conda, not installed": ("conda", "install", "no-such-package"),
    "conda, another version": ("conda", "install", "numpy=1.0"),
    "conda, another environment": ("conda", "create", "-n", "tf"),
    "wget": ("wget", "https://x.org/other.zip"),
    "curl": ("curl", "-O", "https://x.org/other.zip"),
    "curl, a bare host": ("curl", "example.org"),
    "wget, a list of addresses": ("wget", "-i", "list.txt"),
}


@pytest.mark.parametrize("command", SUCCEED.values(), ids=SUCCEED)
def test_what_is_there_is_enough(command: tuple[str, ...], work: Path, lab: Path) -> None:
    """
    A command that asks for what is there ends with 0 and leaves the lab's files as they are.
    """
    (work / "own.txt").write_text("own")

    done = run(*command, work=work, lab=lab)

    assert done.returncode == 0, done.stderr
    assert (lab / "tiles-idx3-ubyte").read_bytes() == CONTENT
    assert (work / "tiles-idx3-ubyte").read_bytes() == CONTENT


@pytest.mark.parametrize("command", FAIL.values(), ids=FAIL)
def test_what_is_not_there_fails_with_the_reason(
    command: tuple[str, ...], work: Path, lab: Path
) -> None:
    """
    A command that needs a network fails and says that the grader has none.
    """
    done = run(*command, work=work, lab=lab)

    assert done.returncode != 0
    assert "the grader has no network" in done.stderr


def test_requirements_files_are_read(work: Path, lab: Path) -> None:
    """
    pip install -r looks at each line of the file.
    """
    (work / "requirements.txt").write_text(
        "# ours\nnumpy>=1.20  # arrays\n\n-r more.txt\n--no-index\npytest \\\n  --hash=sha256:0\n"
    )
    (work / "more.txt").write_text("no-such-package\n")

    done = run("pip", "install", "-r", "requirements.txt", work=work, lab=lab)

    assert done.returncode == 1
    assert "already satisfied: numpy>=1.20" in done.stdout
    assert "already satisfied: pytest" in done.stdout
    assert "no-such-package is not installed" in done.stderr


def test_fetched_files_are_the_labs(work: Path, lab: Path) -> None:
    """
    What wget and curl write is the lab's file, also to standard output; gunzip unpacks it.
    """
    url = "https://x.org/tiles-idx3-ubyte.gz"

    run("wget", "-P", "new", url, work=work, lab=lab)
    run("curl", "-o", "named.gz", url, work=work, lab=lab)
    shown = run("curl", "https://x.org/tiles-idx3-ubyte", work=work, lab=lab)
    unpacked = run("gunzip", "new/tiles-idx3-ubyte.gz", "named.gz", work=work, lab=lab)

    assert unpacked.returncode == 0
    assert (work / "new" / "tiles-idx3-ubyte").read_bytes() == CONTENT
    assert (work / "named").read_bytes() == CONTENT
    assert not (work / "named.gz").exists()
    assert shown.stdout.encode() == CONTENT


def test_gzip_is_the_systems_for_all_else(work: Path, lab: Path) -> None:
    """
    Standard input, archives, and files that are not the lab's are unpacked as ever.
    """
    (work / "own").write_text("own")
    run("gzip", "own", work=work, lab=lab)
    (work / "own.gz").rename(work / "other.gz")

    unpacked = run("gunzip", "other.gz", "tiles-idx3-ubyte.gz", work=work, lab=lab)
    piped = subprocess.run(
        [sys.executable, "-I", "-m", "nbassay.inside.stand_ins", "gzip", "-dc"],
        input=gzip.compress(b"piped"),
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert unpacked.returncode == 0, unpacked.stderr
    assert (work / "other").read_text() == "own"
    assert (work / "tiles-idx3-ubyte.gz").exists()
    assert piped.stdout == b"piped"


def test_gunzip_of_nothing_fails(work: Path, lab: Path) -> None:
    """
    A file that is neither packed nor unpacked there is an error, as it is for gunzip.
    """
    done = run("gunzip", "other.gz", work=work, lab=lab)

    assert done.returncode == 1
    assert "other.gz" in done.stderr


@pytest.mark.parametrize(
    "path",
    ["data/tiles-idx3-ubyte", "C:\\Users\\me\\tiles.idx3-ubyte", b"/content/Tiles-IDX3-ubyte"],
)
def test_files_are_known_by_name(
    path: str | bytes, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A data file is known whatever folder it is looked for in and however its parts are joined.
    """
    monkeypatch.setenv(FOLDER, str(lab))

    assert lab_file(path) == lab / "tiles-idx3-ubyte"
    assert lab_file("data/other-idx3-ubyte") is None
    assert lab_file("data/") is None


def test_every_command_of_the_lab_page_is_answered() -> None:
    """
    The programs that set-up cells call are all there.
    """
    assert {"pip", "conda", "wget", "curl", "gunzip"} <= set(COMMANDS)


SET_UP = (
    "!pip install -q numpy\n%pip install idx2numpy\n%conda install -y numpy\n"
    "import sys\n!{sys.executable} -m pip install numpy\n"
    "!wget https://x.org/tiles-idx3-ubyte.gz\n!mkdir old; mv labels-idx1-ubyte.gz old",
    "%%bash\nset -e\npip install numpy\ncurl -O https://x.org/labels-idx1-ubyte.gz\ngunzip -f *.gz",
    "%%bash\npip install no-such-package",
    "import gzip, shutil, urllib.request\n"
    "opener = urllib.request.build_opener()\nopener.addheaders = [('User-agent', 'Mozilla/5.0')]\n"
    "urllib.request.install_opener(opener)\n"
    "urllib.request.urlretrieve('https://x.org/tiles-idx3-ubyte.gz', 'tiles-idx3-ubyte.gz')\n"
    "with gzip.open('tiles-idx3-ubyte.gz') as packed, open('tiles-idx3-ubyte', 'wb') as file:\n"
    "    shutil.copyfileobj(packed, file)",
    "urllib.request.urlopen('https://x.org/')",
    "from google.colab import auth, drive, files\ndrive.mount('drive')\n"
    "assert 'tiles-idx3-ubyte' in files.upload()\nopen('drive/MyDrive/tiles-idx3-ubyte').close()",
    "open('data/tiles-idx3-ubyte', 'rb').close()\nopen('/elsewhere/tiles-idx3-ubyte')",
    "import idx2numpy\n"
    "tiles = idx2numpy.convert_from_file('data/tiles.idx3-ubyte')\n"
    "labels = idx2numpy.convert_from_file('drive/MyDrive/labels-idx1-ubyte')",
    "tiles = tiles.reshape(40, 16) / 255",
)


@pytest.mark.kernel
def test_a_notebook_that_sets_itself_up_loses_nothing(tmp_path: Path, nbassay: Nbassay) -> None:
    """
    Set-up cells succeed where everything is there, fail alone where not, and cost no point.
    """
    notebook = write_notebook(tmp_path / "ann.ipynb", *SET_UP)

    done = nbassay("check", notebook, "-o", tmp_path / "out", "--json", cwd=TINY)

    assert done.returncode == 0, done.stderr
    assert '"score": 100.0' in done.stdout
    stopped = {line.split()[1] for line in done.stdout.splitlines() if " stopped: " in line}
    assert stopped == {"3", "5", "7"}
    executed = (tmp_path / "out" / "learners" / "ann" / "executed.ipynb").read_text()
    assert executed.count("the grader has no network") >= 2
    assert "cell 8: 'data/tiles.idx3-ubyte' is not there" in done.stdout
