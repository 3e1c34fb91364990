"""A live kernel as a front end has one: cells with ids go in, outputs come back."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

TIMEOUT_S = 600
"""Of silence: a cell that trains says nothing until it ends, on a busy machine minutes later."""
CHECK = re.compile(r'<article class="check check-([a-z-]+)".*?class="check-id">([^<]+)<', re.DOTALL)
WAITING = re.compile(r"Not reached yet: (.+)\.$", re.MULTILINE)


class Output:
    """What one cell showed."""

    def __init__(self) -> None:
        self.text = ""
        """Streams, and plain text of what was displayed."""
        self.html = ""
        self.error: str | None = None
        """Name of the error that ended the cell."""

    @property
    def outcomes(self) -> dict[str, str]:
        """Check → outcome, as an answer to ``%assay`` tells them."""
        told = {check: outcome for outcome, check in CHECK.findall(self.html)}
        for names in WAITING.findall(self.text):
            told.update(dict.fromkeys(re.split(r", | and ", names), "not-reached"))
        return told


class LiveKernel:
    """One kernel, with a client."""

    def __init__(self, folder: Path) -> None:
        self._sockets = tempfile.TemporaryDirectory()
        self.manager = KernelManager(transport="ipc", ip=f"{self._sockets.name}/s")
        self.manager._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="live",
            language="python",
        )
        self.manager.start_kernel(cwd=str(folder))
        self._client = self.manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT_S)

    @property
    def pid(self) -> int:
        found: int = self.manager.provisioner.pid
        return found

    def run(self, source: str, cell: str | None = None) -> Output:
        """Run one cell; *cell* is its id, where the front end has one."""
        session = self._client.session
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = session.msg("execute_request", content)
        if cell is not None:
            message["metadata"]["cellId"] = cell
        self._client.shell_channel.send(message)
        output = Output()
        while True:
            told = self._client.get_iopub_msg(timeout=TIMEOUT_S)
            if told["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            content = told["content"]
            if told["msg_type"] == "stream":
                output.text += content["text"]
            elif told["msg_type"] == "error":
                output.error = content["ename"]
            elif told["msg_type"] in ("display_data", "execute_result"):
                output.text += content["data"].get("text/plain", "") + "\n"
                output.html += content["data"].get("text/html", "")
            elif told["msg_type"] == "status" and content["execution_state"] == "idle":
                return output

    def end(self) -> None:
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self._sockets.cleanup()


@contextmanager
def live_kernel(folder: Path) -> Iterator[LiveKernel]:
    """A kernel whose working folder is *folder*; it ends with the block."""
    kernel = LiveKernel(folder)
    try:
        yield kernel
    finally:
        kernel.end()
