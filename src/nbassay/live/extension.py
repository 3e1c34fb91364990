"""
``%load_ext nbassay`` and ``%assay``.

Whatever happens here, a learner's cell never fails by it: what goes wrong is said in a line.
"""

from __future__ import annotations

import collections
import difflib
import os
from pathlib import Path
from typing import Any

from nbassay.errors import AssayError
from nbassay.live.client import Client, JudgeGone
from nbassay.live.protocol import Question, Welcome
from nbassay.live.watch import Watch
from nbassay.workshop import MANIFEST, find_workshop

BOX = "NBASSAY_SCRATCH"
"""Set where a notebook is graded."""
USAGE = """\
%assay                every check that your notebook has reached
%assay {step:<14} the checks of one step
%assay {check:<14} one check
%assay hint CHECK     a hint; more concrete each time you ask
%assay lab FOLDER     where the lab is: the folder that holds workshop.toml"""

_loaded: dict[int, SelfCheck] = {}
"""Shell → what watches it: an extension that is loaded again goes on where it was."""


def load(shell: Any) -> None:
    """Begin to watch *shell*, and register ``%assay``; in the grader, do nothing but say so."""
    if BOX in os.environ:
        print("nbassay: this notebook is being graded, so %assay has nothing to add.")
        shell.register_magic_function(_nothing, magic_name="assay")
        return
    if id(shell) in _loaded:
        print("nbassay is watching already: %assay shows how you are doing.")
        return
    checks = _loaded[id(shell)] = SelfCheck(shell)
    shell.register_magic_function(checks.assay, magic_name="assay")
    checks.begin()


def _nothing(_line: str) -> None:
    """Answer ``%assay`` in the grader."""


class SelfCheck:
    """``%assay`` in one kernel."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._client: Client | None = None
        self._watch: Watch | None = None
        self._welcome = Welcome()
        self._asked: collections.Counter[str] = collections.Counter()
        """Check → how often a hint was asked for."""

    def begin(self, folder: Path | None = None) -> None:
        """Watch from now on, with the lab in *folder* or the nearest one; say if there is none."""
        try:
            found = _find_lab() if folder is None else find_workshop(folder)
            client = Client(found)
            welcome = client.welcome()
        except (AssayError, JudgeGone, OSError) as error:
            print(f"nbassay: {error}")
            print("nbassay: tell where the lab is: %assay lab FOLDER")
            return
        if welcome.problem is not None:
            print(f"nbassay: {welcome.problem}")
            return
        self._client, self._welcome = client, welcome
        self._watch = Watch(self._shell, welcome, client.nonce)
        print(f"nbassay watches this notebook ({welcome.title}). %assay shows how you are doing.")

    def assay(self, line: str) -> None:
        """Show how the notebook is doing; ``%assay help`` tells what else can be asked."""
        try:
            self._answer(line.split())
        except KeyboardInterrupt:
            print("nbassay: stopped.")
        except Exception as error:
            print(f"nbassay: this could not be checked ({type(error).__name__}: {error}).")
            print("Nothing of yours was changed; ask again, or run `nbassay check` instead.")

    def _answer(self, words: list[str]) -> None:
        if words[:1] == ["lab"] and len(words) > 1:
            self._move(Path(" ".join(words[1:])).expanduser())
        elif self._watch is None:
            self.begin()
        elif (question := self._question(words)) is not None:
            assert self._client is not None
            answer = self._client.ask(self._watch.facts, question)
            if answer.html is None:
                print(answer.text)
            else:
                _show(answer.html, answer.text)

    def _move(self, folder: Path) -> None:
        if self._watch is None:
            self.begin(folder)
        else:
            print("nbassay watches this notebook already; restart the kernel for another lab.")

    def _question(self, words: list[str]) -> Question | None:
        """What *words* ask; None when it is no question, after saying what would be one."""
        assert self._watch is not None
        checks = self._welcome.checks
        match words:
            case []:
                return self._watch.question()
            case [step] if step in map(str, self._welcome.steps):
                return self._watch.question(step=int(step))
            case [check] if check in checks:
                return self._watch.question(check=check)
            case ["hint", check] if check in checks:
                self._asked[check] += 1
                return self._watch.question(check=check, hint=self._asked[check])
        self._tell_usage(words)
        return None

    def _tell_usage(self, words: list[str]) -> None:
        steps, checks = [str(step) for step in self._welcome.steps], self._welcome.checks
        if words not in (["help"], ["hint"]):
            close = difflib.get_close_matches(words[-1], [*checks, *steps], n=1, cutoff=0.4)
            meant = f" Did you mean {close[0]}?" if close else ""
            print(f"nbassay: there is no {' '.join(words)!r}.{meant}")
        print(USAGE.format(step=steps[0], check=checks[0]))
        print(f"\nsteps:  {', '.join(steps)}\nchecks: {', '.join(checks)}")


def _find_lab() -> Path:
    """
    The nearest folder with a workshop: this one, one above it, or the only one just below.

    Raises:
        ManifestError: There is none.
    """
    below = sorted(path.parent for path in Path.cwd().glob(f"*/{MANIFEST}"))
    try:
        return find_workshop(Path.cwd())
    except AssayError:
        if len(below) == 1:
            return below[0]
        raise


def _show(html: str, text: str) -> None:
    from IPython.display import display

    display({"text/html": html, "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]
