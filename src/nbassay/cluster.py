"""
Boxes on the workers of a Dask cluster: the same runs as on this machine, elsewhere.

A worker is set up once: it gets the manifest and the lab's packed files, checks them against their
digests, chooses a sandbox and tries its walls. Then it is sent notebooks and sends back evidence,
both as bytes that are decoded as those of a file would be. Dask sends what a lost worker had to
another one. Workers are machines of ours: whoever can write to the scheduler can run code there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import safetensors.numpy

from nbassay.errors import ClusterError, SandboxError, UsageError
from nbassay.evidence import decode_evidence
from nbassay.notebook import Notebook
from nbassay.places import NotRunError
from nbassay.records import Record
from nbassay.running import Run, Shortcuts, evidence_key, run_notebook
from nbassay.sandbox import ProbeResult, Walls
from nbassay.sandbox.choose import choose
from nbassay.sandbox.probes import probe
from nbassay.scratch import scratch
from nbassay.workbench import Workbench, workbench
from nbassay.workshop import Manifest, Workshop

if TYPE_CHECKING:
    from distributed import Client

try:
    from distributed import WorkerPlugin as _Plugin
except ImportError:  # an extra: `open_cluster` says so
    _Plugin = object

CONNECT_S = 10.0
"""Seconds for the scheduler to answer."""
JOIN_S = 120.0
"""Seconds that a cluster without workers gets for the first one to come."""
LISTEN_S = 0.5
"""Seconds between two looks at whether the class is to stop."""
AHEAD = 1.25
"""Notebooks that are sent for each that can run: nobody waits for the network."""


class Announcement(Record, frozen=True, kw_only=True):
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


class Order(Record, frozen=True, kw_only=True):
    """One notebook to run."""

    digest: str
    content: dict[str, Any]
    attempt: int
    shortcuts: Shortcuts


class Delivery(Record, frozen=True, kw_only=True):
    """What one run left, as it is kept in files."""

    evidence: bytes
    arrays: bytes
    outputs: dict[int, list[dict[str, Any]]]
    seconds: dict[str, float]


# Made before there are threads, see `nbassay.evidence`.
_decode_order = msgspec.msgpack.Decoder(Order).decode
_decode_delivery = msgspec.msgpack.Decoder(Delivery).decode

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
        """
        Lay out the workshop and try the walls.

        Raises:
            AssayError: The machine cannot be used.
        """
        self._open = contextlib.ExitStack()
        sandbox = choose(self._sandbox_name)
        self._probes = list(probe(sandbox)) if sandbox.is_isolated else []
        folder = self._open.enter_context(scratch("workshop"))
        workshop = _laid_out(folder, self._manifest, self._files)
        self._bench = self._open.enter_context(workbench(workshop, sandbox))
        _ready[self._called] = self

    def teardown(self, worker: Any) -> None:
        """Leave nothing behind."""
        _ready.pop(self._called, None)
        self._open.close()

    @property
    def bench(self) -> Workbench:
        return self._bench

    def announcement(self) -> bytes:
        sandbox = self._bench.sandbox
        return msgspec.json.encode(
            Announcement(
                name=sandbox.name,
                mode=sandbox.mode,
                is_isolated=sandbox.is_isolated,
                key=_key(self._bench.workshop, sandbox),
                probes=self._probes,
            )
        )


def _laid_out(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Workshop:
    """A workshop that holds its lab's data and nothing else; they are checked when read."""
    for path, content in files.items():
        target = folder / path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ClusterError(f"{path}: a file of the lab's data outside the workshop's folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return Workshop(folder, manifest)


def _key(workshop: Workshop, walls: Walls) -> str:
    return evidence_key("", workshop, walls, 0, is_fast=True)


def _announce(name: str) -> bytes:
    """Runs on a worker."""
    return _ready[name].announcement()


def _run_there(name: str, order: bytes) -> bytes:
    """Runs on a worker."""
    told = _decode_order(order)
    run = run_notebook(
        Notebook(digest=told.digest, content=told.content, notes=()),
        _ready[name].bench,
        attempt=told.attempt,
        shortcuts=told.shortcuts,
    )
    delivery = Delivery(
        evidence=msgspec.json.encode(run.evidence),
        arrays=safetensors.numpy.save(run.blobs),
        outputs=run.outputs,
        seconds=dict(run.seconds),
    )
    return msgspec.msgpack.encode(delivery, enc_hook=str)


class Cluster:
    """A Dask cluster whose workers are ready for one workshop."""

    def __init__(self, client: Client, name: str, workers: Sequence[Announcement]) -> None:
        self._client = client
        self._name = name
        first = workers[0]
        self._walls = first.walls
        self.probes = _together(workers)

    @property
    def walls(self) -> Walls:
        return self._walls

    @property
    def jobs(self) -> int:
        """Notebooks to send at once: as many as threads of workers, and some that wait there."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, math.ceil(AHEAD * sum(threads.values())))

    def run(
        self,
        notebook: Notebook,
        *,
        attempt: int,
        shortcuts: Shortcuts,
        should_stop: Callable[[], bool],
    ) -> Run:
        """
        Run *notebook* on a worker; on another one, if that is lost.

        Raises:
            NotRunError: Workers were lost one after the other.
            ClusterError: The scheduler is lost.
        """
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        order = Order(
            digest=notebook.digest,
            content=notebook.content,
            attempt=attempt,
            shortcuts=shortcuts,
        )
        future = self._client.submit(
            _run_there, self._name, msgspec.msgpack.encode(order), pure=False
        )
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    return _decoded(future.result(timeout=LISTEN_S))
                if should_stop():
                    raise NotRunError("interrupted")
        except KilledWorker as error:
            raise NotRunError(
                f"the workers that ran it were lost one after the other ({error}); look at what "
                "ended them, then grade again"
            ) from error
        except (CommClosedError, CancelledError, OSError) as error:
            raise ClusterError(
                f"the scheduler was lost ({error}); what is done stays done, so start it and give "
                "the same command again"
            ) from error
        finally:
            future.release()


def _decoded(delivered: bytes) -> Run:
    delivery = _decode_delivery(delivered)
    evidence, blobs = decode_evidence(delivery.evidence, delivery.arrays)
    return Run(evidence=evidence, blobs=blobs, outputs=delivery.outputs, seconds=delivery.seconds)


def _together(workers: Sequence[Announcement]) -> list[ProbeResult]:
    """Of each attempt the worst result."""
    found: dict[str, ProbeResult] = {}
    for worker in workers:
        for result in worker.probes:
            if result.name not in found or not result.holds:
                found[result.name] = result
    return list(found.values())


@contextlib.contextmanager
def open_cluster(address: str, workshop: Workshop, sandbox_name: str) -> Iterator[Cluster]:
    """
    Make the workers of the scheduler at *address* ready for *workshop* while the block runs.

    Raises:
        UsageError: Dask is not installed here.
        ClusterError: The scheduler is not there, has no workers, or they are not as this machine.
        SandboxError: A worker has no usable sandbox.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "--cluster needs Dask, here and on the workers: pip install 'nbassay[cluster]'"
        ) from error
    name = f"nbassay-{secrets.token_hex(8)}"
    try:
        client = Client(address, set_as_default=False, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: expected a Dask scheduler, as tcp://HOST:8786, found none ({error})"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=JOIN_S)
        except TimeoutError as error:
            raise ClusterError(
                f"{address}: the scheduler is there, but no worker joined in {JOIN_S:.0f} s"
            ) from error
        client.register_plugin(Equipment(name, workshop, sandbox_name), name=name)
        try:
            yield Cluster(client, name, _agreed(client.run(_announce, name), workshop))
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.unregister_worker_plugin(name)


def _agreed(told: Mapping[str, bytes], workshop: Workshop) -> list[Announcement]:
    """
    What the workers told, if they are as this machine.

    Raises:
        ClusterError: One has other versions or other walls.
        SandboxError: The walls of one do not hold.
    """
    workers = {
        address: msgspec.json.decode(each, type=Announcement)
        for address, each in sorted(told.items())
    }
    for address, worker in workers.items():
        if worker.key != _key(workshop, worker.walls):
            raise ClusterError(
                f"worker {address}: expected the Python, nbassay and packages of this machine, "
                "found others; install the same versions on both, or marks would depend on where "
                "a notebook ran"
            )
        broken = [result for result in worker.probes if not result.holds]
        if broken:
            raise SandboxError(
                f"worker {address}: the sandbox {worker.mode} does not hold: "
                + "; ".join(f"{result.name} ({result.detail})" for result in broken)
            )
    modes = {worker.mode: address for address, worker in workers.items()}
    if len(modes) > 1:
        told_modes = "; ".join(f"{mode} on {address}" for mode, address in modes.items())
        raise ClusterError(f"expected one kind of sandbox on all workers, found {told_modes}")
    return list(workers.values())
