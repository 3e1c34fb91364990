"""The kernel's end of the judge: starts it, asks it, and starts it again when it has ended."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from nbassay.live.protocol import ASK, TOLD, Answer, Question, Welcome, read_frame, write_frame

PROGRAM = (
    "import sys; sys.path = [folder for folder in sys.path if folder]; "
    "from nbassay.live.judge import main; main()"
)
"""
Modules are found where the kernel finds them, but not in the working folder: a learner's file may
be called like one of them.
"""
LEFT_OUT = ("PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONINSPECT")
"""Would switch off assertions, which checks are made of, or change what the judge says."""


class JudgeGone(Exception):
    """The judge ended or never began."""


class Facts:
    """The frames of one kernel's probe, in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the kernel

    @property
    def descriptor(self) -> int:
        """Where to append."""
        return self._file.fileno()

    def since(self, start: int) -> bytes:
        """All bytes from *start* on."""
        self._file.seek(start)
        return self._file.read()


class Client:
    """Asks a judge of its own about one workshop."""

    def __init__(self, workshop: Path) -> None:
        self._workshop = workshop
        self.nonce = secrets.token_bytes(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._sent = 0

    def welcome(self) -> Welcome:
        """
        Start the judge and return what it says first.

        Raises:
            JudgeGone: It could not be started.
        """
        environment = {name: text for name, text in os.environ.items() if name not in LEFT_OUT}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self._workshop), self.nonce.hex()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                # A group or console of its own: an interrupt is meant for the learner's cell alone.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise JudgeGone(str(error)) from error
        self._sent = 0
        return msgspec.json.decode(self._next(), type=Welcome)

    def ask(self, facts: Facts, question: Question) -> Answer:
        """
        Send what is new of *facts* and return the answer to *question*.

        Raises:
            JudgeGone: It ended, and one that was started in its place ended, too.
        """
        try:
            return self._ask(facts, question)
        except JudgeGone:
            self.end()
            self.welcome()
            return self._ask(facts, question)
        except BaseException:  # an interrupt: what is in the pipes belongs to nobody now
            self.end()
            raise

    def _ask(self, facts: Facts, question: Question) -> Answer:
        if self._process is None:
            raise JudgeGone("it was not started")
        assert self._process.stdin is not None
        new = facts.since(self._sent)
        try:
            self._process.stdin.write(new)
            write_frame(self._process.stdin, ASK, msgspec.json.encode(question))  # type: ignore[arg-type]
        except OSError as error:
            raise JudgeGone(str(error)) from error
        self._sent += len(new)
        return msgspec.json.decode(self._next(), type=Answer)

    def _next(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        read = read_frame(self._process.stdout)  # type: ignore[arg-type]
        if read is None or read[0] != TOLD:
            raise JudgeGone("it ended without an answer")
        return read[1]

    def end(self) -> None:
        """End the judge; the next question starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet
                assert stream is not None
                stream.close()
