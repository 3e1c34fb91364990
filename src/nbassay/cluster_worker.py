"""
A worker of a cluster: what it is set up with, what it runs, and what passes between it and us.

It runs in the worker's process, but for the records, which both sides read and write as bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors.numpy

from nbassay.errors import AssayError, ClusterError, SandboxError, our_failure
from nbassay.notebook import Notebook
from nbassay.records import Record
from nbassay.running import Shortcuts, evidence_key, run_notebook
from nbassay.sandbox import ProbeResult, Walls
from nbassay.sandbox.choose import choose
from nbassay.sandbox.probes import probe
from nbassay.scratch import scratch
from nbassay.workbench import Workbench, workbench
from nbassay.workshop import Manifest, Workshop

try:
    from distributed import WorkerPlugin as _Plugin
except ImportError:  # an extra: `nbassay.cluster.open_cluster` says so
    _Plugin = object

_log = logging.getLogger(__name__)


class Announcement(Record, frozen=True, kw_only=True, tag=True):
    """What a worker tells of itself."""

    name: str
    mode: str
    is_isolated: bool
    key: str
    """Of a run of no code there: equal keys, equal machines as far as evidence goes."""
    probes: list[ProbeResult]

    @property
    def walls(self) -> RemoteWalls:
        return RemoteWalls(name=self.name, mode=self.mode, is_isolated=self.is_isolated)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteWalls:
    """The walls that all workers have."""

    name: str
    mode: str
    is_isolated: bool


class Unready(Record, frozen=True, kw_only=True, tag=True):
    """What a worker tells that cannot be used."""

    why: str
    is_open: bool
    """It is for want of a sandbox."""


class Order(Record, frozen=True, kw_only=True):
    """One notebook to run."""

    digest: str
    content: dict[str, Any]
    attempt: int
    shortcuts: Shortcuts


class Delivery(Record, frozen=True, kw_only=True, tag=True):
    """What one run left, as it is kept in files."""

    worker: str
    """Address of who ran it."""
    evidence: bytes
    arrays: bytes
    outputs: dict[int, list[dict[str, Any]]]
    seconds: dict[str, float]


class Failure(Record, frozen=True, kw_only=True, tag=True):
    """What kept a worker from running a notebook."""

    worker: str
    """Its address."""
    why: str


# Made before there are threads, see `nbassay.evidence`.
_decode_order = msgspec.msgpack.Decoder(Order).decode
decode_delivery = msgspec.msgpack.Decoder(Delivery | Failure).decode
decode_told = msgspec.json.Decoder(Announcement | Unready).decode

_ready: dict[str, Equipment] = {}
"""Of a worker: what it has at hand, by the name that a class gave it."""


class Equipment(_Plugin):  # type: ignore[misc]
    """Makes a worker ready for one workshop; Dask sends it to those that come later, too."""

    def __init__(self, name: str, workshop: Workshop, sandbox_name: str) -> None:
        self._called = name
        self._manifest = workshop.manifest
        self._files = {
            file.path: workshop.path(file.path).read_bytes()
            for file in workshop.manifest.data.files.values()
        }
        self._sandbox_name = sandbox_name

    def setup(self, worker: Any) -> None:
        """Lay out the workshop and try the walls; Dask would lose an error, so it is kept."""
        self._open = contextlib.ExitStack()
        self.told: Announcement | Unready
        try:
            self.told = self._made_ready()
        except Exception as error:
            _log.exception("this worker cannot be made ready")
            self._open.close()
            self.told = Unready(
                why=why_failed(error, "making a worker ready"),
                is_open=isinstance(error, SandboxError),
            )
        _ready[self._called] = self

    def _made_ready(self) -> Announcement:
        sandbox = choose(self._sandbox_name)
        probes = list(probe(sandbox)) if sandbox.is_isolated else []
        folder = self._open.enter_context(scratch("workshop"))
        workshop = _laid_out(folder, self._manifest, self._files)
        self.bench: Workbench = self._open.enter_context(workbench(workshop, sandbox))
        return Announcement(
            name=sandbox.name,
            mode=sandbox.mode,
            is_isolated=sandbox.is_isolated,
            key=key_of(workshop, sandbox),
            probes=probes,
        )

    def teardown(self, worker: Any) -> None:
        """Leave nothing behind."""
        _ready.pop(self._called, None)
        self._open.close()


def why_failed(error: Exception, at: str) -> str:
    """What to tell of an error of a worker: its machine's, or a bug of ours."""
    return str(error) if isinstance(error, AssayError | OSError) else our_failure(error, at)


def _laid_out(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Workshop:
    """A workshop that holds its lab's data and nothing else; they are checked when read."""
    for path, content in files.items():
        target = folder / path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ClusterError(f"{path}: a file of the lab's data outside the workshop's folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return Workshop(folder, manifest)


def key_of(workshop: Workshop, walls: Walls) -> str:
    """Of a run of no code behind *walls* here: equal keys, equal machines for evidence."""
    return evidence_key("", workshop, walls, 0, is_fast=True)


def announce(name: str) -> bytes | None:
    """Runs on a worker: what it tells of itself; None while it has not got what it needs."""
    equipment = _ready.get(name)
    return None if equipment is None else msgspec.json.encode(equipment.told)


async def admit(name: str, dask_worker: Any) -> None:
    """Runs on a worker: from now on Dask sends it notebooks, one a thread."""
    await dask_worker.set_resources(**{name: dask_worker.state.nthreads})


async def dismiss(name: str, dask_worker: Any) -> None:
    """Runs on a worker: Dask sends it no more; what it was sent it still may do."""
    await dask_worker.scheduler.set_resources(
        worker=dask_worker.contact_address, resources={name: 0}
    )


def run_there(name: str, order: bytes) -> bytes:
    """Runs on a worker; what goes wrong there is delivered, too: it is no end of the class."""
    from distributed import get_worker

    try:
        done: Delivery | Failure = _done_there(_ready[name].bench, order, get_worker().address)
    except Exception as error:
        _log.exception("a notebook could not be run")
        done = Failure(worker=get_worker().address, why=why_failed(error, "this notebook"))
    return msgspec.msgpack.encode(done, enc_hook=str)


def _done_there(bench: Workbench, order: bytes, worker: str) -> Delivery:
    told = _decode_order(order)
    run = run_notebook(
        Notebook(digest=told.digest, content=told.content, notes=()),
        bench,
        attempt=told.attempt,
        shortcuts=told.shortcuts,
    )
    second = run.evidence.second
    for ending in (run.evidence.ending, second.ending if second is not None else None):
        if ending is not None and ending.reason == "could-not-start":
            raise SandboxError(ending.message or "a box could not start")
    return Delivery(
        worker=worker,
        evidence=msgspec.json.encode(run.evidence),
        arrays=safetensors.numpy.save(run.blobs),
        outputs=run.outputs,
        seconds=dict(run.seconds),
    )
