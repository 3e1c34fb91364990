"""
Runs one notebook inside the box and sends what happened through the pipe.

Started as ``python -m nbassay.inside.executor``; the job comes on standard input. Cells are run
to the end past errors, as a person would go on. The kernel cannot reach the pipe; it appends its
facts to a file, which is relayed after every cell, so that what was seen counts even if the next
cell takes the box down.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_output

from nbassay.inside import ahead
from nbassay.inside.channel import CELL, KERNELS, TOLD, frame
from nbassay.inside.job import Job
from nbassay.inside.kernel import ProbeSettings
from nbassay.inside.kernel_fork import ForkProvisioner, KernelFork, fork_kernel, run_kernel
from nbassay.inside.landlock import enter_domain
from nbassay.inside.source import read_code
from nbassay.inside.workspace import furnish
from nbassay.records import CellFact, RemarkFact

PR_SET_DUMPABLE = 4
ANSWER_S = 15.0
"""Seconds a kernel gets to answer after an interrupt, before it is given up."""
RELAY_BYTES = 1 << 20
MOST_FRAME_BYTES = 32 << 20
MOST_WARNINGS = 20
MOST_ERROR_NAME = 200
MOST_LINE = 4000
MOST_TRACEBACK = 200


class CellReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outputs of one cell, for executed.ipynb; the host cleans them before it writes any."""

    index: int
    outputs: list[dict[str, Any]]


class BoundedClient(NotebookClient):
    """Keeps outputs within a budget for the whole notebook."""

    left_bytes = 4 << 20
    was_cut = False

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Drop outputs beyond the budget, keep the messages that say how a cell ended."""
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data"):
            size = len(msgspec.json.encode(msg["content"], enc_hook=str))
            self.left_bytes -= size
            if self.left_bytes < 0:
                self.was_cut = True
                return None
        elif msg["msg_type"] == "error":
            msg = {**msg, "content": cut_error(msg["content"])}
        return super().process_message(msg, cell, cell_index)


def coalesce_streams(outputs: Sequence[Any]) -> list[Any]:
    """
    *outputs* with neighbours of one stream joined: where a kernel flushed is chance.

    (nbclient's own joins across pictures too, and so moves what was printed after one.)
    """
    joined: list[Any] = []
    for (kind, name), run in itertools.groupby(
        outputs, lambda output: (output.output_type, output.get("name"))
    ):
        if kind == "stream":
            text = "".join(map(_text_of, run))
            joined.append(new_output("stream", name=name, text=text))
        else:
            joined += run
    return joined


def without_overwritten(output: Any) -> dict[str, Any]:
    """*output*; of each line of a stream what follows its last carriage return: a bar's end."""
    if output.output_type != "stream":
        return dict(output)
    lines = _text_of(output).split("\n")
    return {**output, "text": "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)}


def _text_of(stream: Any) -> str:
    """The text of a stream, which nbformat lets be a list of its parts; none of what is neither."""
    parts = stream.text if isinstance(stream.text, list) else [stream.text]
    return "".join(part for part in parts if isinstance(part, str))


def cut_error(content: dict[str, Any]) -> dict[str, Any]:
    """An error in the lengths that are kept of it: a message of 40 MB would end the box."""
    traceback = content.get("traceback")
    lines = traceback if isinstance(traceback, list) else []
    return {
        "ename": str(content.get("ename", ""))[:MOST_ERROR_NAME],
        "evalue": str(content.get("evalue", ""))[:MOST_LINE],
        # the last lines tell where it happened
        "traceback": [str(line)[:MOST_LINE] for line in lines[-MOST_TRACEBACK:]],
    }


class Specs(KernelSpecManager):
    """One kernel, whatever the notebook names."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-I", "-m", "nbassay.inside.kernel", "-f", "{connection_file}"],
            display_name="nbassay",
            language="python",
        )


class Relay:
    """Passes on the kernel's frames; looks at kinds and lengths only."""

    def __init__(self, source: int, pipe: int) -> None:
        self._source = source
        self._pipe = pipe
        self._waiting = b""

    def send(self, kind: bytes, payload: bytes) -> None:
        """Send a frame of the executor's own."""
        _write_all(self._pipe, frame(kind, payload))

    def pass_on(self) -> None:
        """Send every whole frame that the kernel wrote since the last call."""
        while chunk := os.read(self._source, RELAY_BYTES):
            self._waiting += chunk
            done = 0
            while len(self._waiting) - done >= 12:
                kind = self._waiting[done : done + 4]
                length = int.from_bytes(self._waiting[done + 4 : done + 12], "big")
                if kind not in KERNELS or length > MOST_FRAME_BYTES:  # nonsense, and so is the rest
                    remark = RemarkFact(
                        cell=0,
                        topic="cut",
                        text="The kernel's facts ended in something else; later ones are missing.",
                    )
                    _write_all(self._pipe, self._waiting[:done])
                    self.send(TOLD, msgspec.json.encode(remark))
                    self._waiting, done = b"", 0
                    os.lseek(self._source, 0, os.SEEK_END)
                    break
                if len(self._waiting) - done < 12 + length:
                    break
                done += 12 + length
            if done:
                _write_all(self._pipe, self._waiting[:done])
                self._waiting = self._waiting[done:]


async def run(job: Job, pipe: int, kernel: KernelFork | None) -> None:
    """Run every code cell of the job's notebook and report each; start a kernel if none waits."""
    notebook = nbformat.from_dict(job.notebook)
    scratch = Path(os.environ["NBASSAY_SCRATCH"])  # for sockets and the facts file
    cells = [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.source.strip()
    ]
    facts = Path(tempfile.mkstemp(dir=scratch, prefix="facts-")[1])
    settings = ProbeSettings(
        nonce=job.nonce,
        widths=job.widths,
        levels=job.levels,
        seed=job.seed,
        facts=str(facts),
        budget_bytes=job.facts_bytes,
        cells=cells,
        packages=job.packages,
        attempt=job.attempt,
        loaders=job.loaders,
        typed=job.typed,
        is_fast=job.is_fast,
    )
    told = scratch / f"probe-{secrets.token_hex(8)}.json"
    told.write_bytes(msgspec.json.encode(settings))
    relay = Relay(os.open(facts, os.O_RDONLY | os.O_CLOEXEC), pipe)

    manager = AsyncKernelManager(
        kernel_name="nbassay",
        kernel_spec_manager=Specs(),
        transport="ipc",
        ip=str(scratch / "s"),
        connection_file=str(scratch / "k.json"),
    )
    if kernel is not None:
        manager.provisioner = ForkProvisioner(
            kernel_spec=Specs().get_kernel_spec(""), parent=manager
        )
        manager.provisioner.waiting = kernel
    client = BoundedClient(
        notebook,
        km=manager,
        timeout=int(job.cell_s),
        interrupt_on_timeout=True,
        error_on_timeout={
            "ename": "CellTimeout",
            "evalue": f"the cell ran longer than {job.cell_s:g} seconds",
            "traceback": [],
        },
        allow_errors=True,
        record_timing=False,
        store_widget_state=False,
    )
    client.left_bytes = job.output_bytes
    environment = {**os.environ, **furnish(scratch), "NBASSAY_PROBE": str(told)}
    environment.pop("NBASSAY_FD", None)
    left = list(cells)
    code = msgspec.json.encode(read_code(notebook.cells[index].source for index in cells))
    try:
        async with client.async_setup_kernel(env=environment):
            relay.send(TOLD, code)  # the first frame: it tells that the kernel is up
            while left:
                index = left.pop(0)
                goes_on = await _run_cell(client, notebook.cells[index], index, relay)
                relay.pass_on()
                if not goes_on:
                    await manager.shutdown_kernel(now=True)
                    break
    except DeadKernelError:
        pass
    relay.pass_on()
    for index in left:
        relay.send(TOLD, msgspec.json.encode(CellFact(index=index, status="not-run", seconds=0.0)))


async def _run_cell(client: BoundedClient, cell: Any, index: int, relay: Relay) -> bool:
    """Run one cell and report it; False when the kernel cannot go on."""
    started = time.monotonic()
    goes_on = True
    problem: tuple[str, str] | None = None
    try:
        await client.async_execute_cell(cell, index)
    except DeadKernelError:
        goes_on = False
        problem = ("KernelDied", "the kernel ended while this cell ran")
    seconds = round(time.monotonic() - started, 3)
    # The cell keeps its own: nbclient finds what a later cell updates by its position there.
    outputs = coalesce_streams(cell.outputs)
    errors = [output for output in outputs if output.output_type == "error"]
    if problem is None and errors:
        problem = (str(errors[-1].get("ename", "")), str(errors[-1].get("evalue", "")))
    timed_out = seconds >= (client.timeout or 0) and goes_on
    status = "timeout" if timed_out else "error" if problem else "ok"
    if timed_out:
        problem = ("CellTimeout", f"the cell ran longer than {client.timeout} seconds")
        goes_on = await _answers(client)
    relay.pass_on()
    shown = [
        output.data
        for output in outputs
        if output.output_type in ("display_data", "execute_result")
        and any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    figures = [data for data in shown if str(data.get("text/plain", "")).startswith("<Figure size")]
    fact = CellFact(
        index=index,
        status=status,  # type: ignore[arg-type]
        seconds=seconds,
        error_name=problem[0][:MOST_ERROR_NAME] if problem else None,
        error_message=problem[1][:MOST_LINE] if problem else None,
        pictures=len(shown),
        other_pictures=len(shown) - len(figures),
        warnings=_warnings(outputs),
    )
    relay.send(TOLD, msgspec.json.encode(fact))
    report = CellReport(index=index, outputs=[*map(without_overwritten, outputs)])
    relay.send(CELL, msgspec.json.encode(report, enc_hook=str))
    return goes_on


async def _answers(client: BoundedClient) -> bool:
    """Whether the kernel answers again after an interrupt."""
    kernel: Any = client.kc
    asked = kernel.kernel_info()
    ends = time.monotonic() + ANSWER_S
    while (left := ends - time.monotonic()) > 0:
        try:
            reply = await asyncio.wait_for(kernel.get_shell_msg(timeout=left), left + 1)
        except Exception:
            return False
        if reply["parent_header"].get("msg_id") == asked:
            return True
    return False


def _warnings(outputs: Sequence[Any]) -> list[str]:
    """Lines of standard error that name a warning category."""
    found = []
    for output in outputs:
        if output.output_type == "stream" and output.get("name") == "stderr":
            found += [
                line[:MOST_LINE] for line in str(output.text).splitlines() if "Warning: " in line
            ]
    return found[:MOST_WARNINGS]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main() -> None:
    """Read the job and run it."""
    pipe = int(os.environ["NBASSAY_FD"])
    os.set_inheritable(pipe, False)  # the kernel is not to have it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # nor our memory
        enter_domain()  # nor that of the box's first process
    kernel = None
    if ahead.is_used:
        kernel = fork_kernel(pipe)
        if kernel is None:
            run_kernel()
            return
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    asyncio.run(run(job, pipe, kernel))
    os._exit(0)  # all is sent; what ends with the box need not be taken apart first


if __name__ == "__main__":
    main()
