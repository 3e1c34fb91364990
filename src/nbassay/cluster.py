"""
Boxes on the workers of a Dask cluster: the same runs as on this machine, elsewhere.

A worker is set up once: it gets the manifest and the lab's packed files, checks them against their
digests, chooses a sandbox and tries its walls. Then it is sent notebooks and sends back evidence,
both as bytes that are decoded as those of a file would be. Dask sends what a lost worker had to
another one. Workers are machines of ours: whoever can write to the scheduler can run code there.

This side judges what a worker tells of itself, whenever it joins, and only one that is as this
machine gets the Dask resource that every notebook asks for: Dask sends none to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import msgspec

from nbassay.cluster_worker import (
    Announcement,
    Delivery,
    Equipment,
    Failure,
    Order,
    Unready,
    admit,
    announce,
    decode_delivery,
    decode_told,
    dismiss,
    key_of,
    run_there,
    why_failed,
)
from nbassay.errors import AssayError, ClusterError, EvidenceError, SandboxError, UsageError
from nbassay.evidence import decode_evidence
from nbassay.notebook import Notebook
from nbassay.places import NotRunError
from nbassay.running import Run, Shortcuts
from nbassay.sandbox import ProbeResult, Walls
from nbassay.workshop import Workshop

if TYPE_CHECKING:
    from distributed import Client, Future, Scheduler

CONNECT_S = 10.0
"""Seconds for the scheduler to answer."""
JOIN_S = 120.0
"""Seconds that a cluster without a usable worker gets for one to come."""
LISTEN_S = 0.5
"""Seconds between two looks at whether the class is to stop, and at who joined."""
AHEAD = 1.25
"""Notebooks that are sent for each that can run: nobody waits for the network."""
MOST_SENT = 256
"""Notebooks at once for workers that may still join: each is held here while it waits."""
MOST_SENDINGS = 3
"""A notebook is sent anew when all are gone who could have it; so often, as Dask does by itself."""

MOST_TRIED = 10
"""Workers that try to run a notebook: several may stand beside one full disk."""
MOST_FAILURES = 3
"""
Notebooks one after the other that a worker could not run and another one could: it would soon have
failed at all.
"""
_LOST_WORKERS = (
    "the workers that ran it were lost one after the other; look at what ended them, then grade "
    "again"
)

_GONE = (OSError, asyncio.TimeoutError)
"""What Dask says of a worker that answers no more; Python 3.10 has two kinds of timeouts."""

Tell = Callable[[str], None]

_log = logging.getLogger(__name__)


class Cluster:
    """A Dask cluster, and those of its workers that are ready for one workshop."""

    def __init__(self, client: Client, name: str, workshop: Workshop, tell: Tell) -> None:
        self._client = client
        self._name = name
        self._workshop = workshop
        self._tell = tell
        self._changed = threading.Condition()
        self._threads: dict[str, int] = {}
        """Of the admitted workers that are there, by address."""
        self._sent = 0
        """Notebooks that are there now."""
        self._refused: dict[str, str] = {}
        """Address of a worker that is there, and why it gets no notebooks."""
        self._failures: dict[str, int] = {}
        """Of a worker since it last ran a notebook, by address."""
        self._missed_since: float | None = None
        """When the last admitted worker went."""
        self._trouble: str | None = None
        """Why nothing can be run any more."""
        self._walls, self.probes = self._first()

    @property
    def walls(self) -> Walls:
        return self._walls

    @property
    def jobs(self) -> int:
        """Notebooks to hold at once: enough for the workers, and for those that may still join."""
        return max(MOST_SENT, self._room)

    @property
    def _room(self) -> int:
        """Notebooks to send at once: as many as threads of workers, and some that wait there."""
        return math.ceil(AHEAD * sum(self._threads.values()))

    def run(
        self,
        notebook: Notebook,
        *,
        attempt: int,
        shortcuts: Shortcuts,
        should_stop: Callable[[], bool],
    ) -> Run:
        """
        Run *notebook* on a worker as soon as one can take it; on another one, if that is lost.

        Raises:
            NotRunError: Workers were lost one after the other, or none that tried could run it.
            ClusterError: The scheduler is lost, or there is no worker any more.
        """
        order = Order(
            digest=notebook.digest,
            content=notebook.content,
            attempt=attempt,
            shortcuts=shortcuts,
        )
        failures: dict[str, Failure] = {}
        losses = 0
        while losses < MOST_SENDINGS and len(failures) < MOST_TRIED:
            with self._turn(should_stop) as workers:
                others = workers - failures.keys()
                if not others:
                    break
                delivered = self._delivered(order, others, should_stop, is_open=not failures)
                if delivered is None:
                    losses += 1
                    continue
                delivery = decode_delivery(delivered)
                if isinstance(delivery, Delivery):
                    self._hear(delivery.worker, [*failures.values()])
                    return _run_of(delivery)
                failures[delivery.worker] = delivery
        raise NotRunError(_why_not_run([*failures.values()]))

    @contextlib.contextmanager
    def _turn(self, should_stop: Callable[[], bool]) -> Iterator[frozenset[str]]:
        """Wait until a worker can take one more; yields the addresses of all that could."""
        with self._changed:
            while self._sent >= self._room:
                self._look_up(should_stop)
                self._changed.wait(LISTEN_S)
            self._sent += 1
            workers = frozenset(self._threads)
        try:
            yield workers
        finally:
            with self._changed:
                self._sent -= 1
                self._changed.notify()

    def _look_up(self, should_stop: Callable[[], bool]) -> None:
        if self._trouble is not None:
            raise ClusterError(self._trouble)
        if should_stop():
            raise NotRunError("interrupted")

    def _delivered(
        self,
        order: Order,
        workers: frozenset[str],
        should_stop: Callable[[], bool],
        *,
        is_open: bool,
    ) -> bytes | None:
        """
        What came back; None when all *workers* are gone: Dask would let it wait for ever.

        Args:
            is_open: To workers that join, too.
        """
        future = self._client.submit(
            *(run_there, self._name, msgspec.msgpack.encode(order)),
            pure=False,
            resources={self._name: 1},
            workers=None if is_open else [*workers],
        )
        try:
            while workers & self._threads.keys():
                delivered = delivered_within(LISTEN_S, future)
                if delivered is not None:
                    return delivered
                self._look_up(should_stop)
            return None
        finally:
            future.release()

    def _hear(self, worker: str, failures: Sequence[Failure]) -> None:
        """*worker* ran a notebook that others could not: who fails at too many is sent no more."""
        dismissed = []
        with self._changed:
            self._failures.pop(worker, None)
            for failed in failures:
                count = self._failures[failed.worker] = self._failures.get(failed.worker, 0) + 1
                if count >= MOST_FAILURES and failed.worker not in self._refused:
                    self._refused[failed.worker] = f"worker {failed.worker}: {failed.why}"
                    dismissed.append(failed.worker)
        for address in dismissed:
            self._tell(
                f"the class goes on without a worker that failed at {MOST_FAILURES} notebooks one "
                f"after the other: {self._refused[address]}"
            )
            with contextlib.suppress(Exception):  # gone by itself
                self._there(dismiss, [address])

    def watch(self, ended: threading.Event) -> None:
        """Look at the workers until *ended*; what runs there goes on meanwhile."""
        while self._trouble is None and not ended.wait(LISTEN_S):
            trouble = self._looked() or self._nobody_left()
            if trouble is not None:
                with self._changed:
                    self._trouble = trouble
                    self._changed.notify_all()

    def _looked(self) -> str | None:
        """Look at the workers; what keeps from it."""
        failed: Exception | None = None
        try:
            self._look()
        except Exception as error:
            failed = error
        if self._client.status != "running":  # it tells of workers as if nothing were amiss
            return _lost_scheduler(failed or "its connection was closed")
        if failed is None:
            return None
        _log.error("the workers could not be looked at", exc_info=failed)
        return why_failed(failed, "looking at the workers")

    def _first(self) -> tuple[Walls, list[ProbeResult]]:
        """
        Admit the workers that are there: all of them, or none.

        Raises:
            AssayError: One of them cannot be used, or none told of itself in time.
        """
        ends = time.monotonic() + JOIN_S
        while not (told := self._asked([*self._workers()])):
            if time.monotonic() > ends:
                raise ClusterError(f"no worker became ready in {JOIN_S:.0f} s; look at their logs")
            time.sleep(LISTEN_S)
        ready = [ready_one(each, told[each], self._workshop) for each in sorted(told)]
        for address, one in zip(sorted(told), ready, strict=True):
            _refuse_other_mode(address, one, ready[0].mode)
        self._admit([*told])
        self._count(self._workers())
        return ready[0].walls, _together(ready)

    def _look(self) -> None:
        """Judge who is new, and count who is there."""
        workers = self._workers()
        with self._changed:
            self._refused = {each: why for each, why in self._refused.items() if each in workers}
        new = [each for each in workers.keys() - self._refused.keys() if not workers[each]]
        good = []
        for address, told in sorted(self._asked(new).items()):
            try:
                one = ready_one(address, told, self._workshop)
                _refuse_other_mode(address, one, self._walls.mode)
            except AssayError as error:
                self._refused[address] = str(error)
                self._tell(f"the class goes on without a worker that cannot be used: {error}")
            else:
                good.append(address)
        self._admit(good)
        self._count(self._workers() if good else workers)

    def _workers(self) -> dict[str, int]:
        """Address of every worker, and how many notebooks at once it was admitted for."""
        told = self._client.scheduler_info(n_workers=-1)["workers"]
        return {each: int(worker["resources"].get(self._name, 0)) for each, worker in told.items()}

    def _asked(self, addresses: Sequence[str]) -> dict[str, Announcement | Unready]:
        """What these workers tell of themselves; who has nothing to tell yet is left out."""
        asked: dict[str, Announcement | Unready] = {}
        for address, told in self._there(announce, addresses).items():
            if isinstance(told, bytes):
                asked[address] = decode_told(told)
            elif isinstance(told, Exception) and not isinstance(told, _GONE):
                asked[address] = Unready(why=why_failed(told, "asking it"), is_open=False)
        return asked

    def _admit(self, addresses: Sequence[str]) -> None:
        self._there(admit, addresses)

    def _there(self, what: Callable[..., Any], addresses: Sequence[str]) -> dict[str, Any]:
        """Do *what* on these workers: address → what it gave, or its error."""
        if not addresses:
            return {}
        done: dict[str, Any] = self._client.run(
            what, self._name, workers=[*addresses], on_error="return"
        )
        return done

    def _count(self, workers: Mapping[str, int]) -> None:
        with self._changed:
            self._threads = {
                each: threads
                for each, threads in workers.items()
                if threads and each not in self._refused
            }
            self._changed.notify_all()
        if self._threads:
            self._missed_since = None
        elif self._missed_since is None:
            self._missed_since = time.monotonic()

    def _nobody_left(self) -> str | None:
        """What to say where no worker could be used for too long."""
        if self._missed_since is None or time.monotonic() - self._missed_since < JOIN_S:
            return None
        return "\n".join(
            [
                f"no usable worker is left, and none joined in {JOIN_S:.0f} s; what is done stays "
                "done, so start workers and give the same command again",
                *self._refused.values(),
            ]
        )


def delivered_within(seconds: float, future: Future) -> bytes | None:
    """
    What *future* delivers within so many *seconds*; None where it has nothing yet.

    Raises:
        NotRunError: No worker can deliver it.
        ClusterError: The scheduler is lost.
    """
    from distributed import KilledWorker

    try:
        delivered: bytes = future.result(timeout=seconds)
    except KilledWorker as error:
        raise NotRunError(f"{_LOST_WORKERS} ({error})") from error
    except Exception as error:
        if future.status == "error":  # of the task, whatever its type says here
            raise NotRunError(f"a worker failed at it ({error!r}); look at its log") from error
        if isinstance(error, asyncio.TimeoutError):  # before Python 3.11 not the builtin one
            return None
        if isinstance(error, (CancelledError, OSError)):
            raise ClusterError(_lost_scheduler(error)) from error
        raise
    return delivered


def _lost_scheduler(error: Exception | str) -> str:
    return (
        f"the scheduler was lost ({error}); what is done stays done, so start it and give the same "
        "command again"
    )


def _run_of(delivery: Delivery) -> Run:
    try:
        evidence, blobs = decode_evidence(delivery.evidence, delivery.arrays)
    except EvidenceError as error:
        raise NotRunError(f"worker {delivery.worker} sent what is no evidence: {error}") from error
    return Run(evidence=evidence, blobs=blobs, outputs=delivery.outputs, seconds=delivery.seconds)


def _why_not_run(failures: Sequence[Failure]) -> str:
    if not failures:
        return _LOST_WORKERS
    told = "; ".join(f"worker {one.worker} could not run it: {one.why}" for one in failures)
    return f"{told}; mend that, then grade again"


def _together(workers: Sequence[Announcement]) -> list[ProbeResult]:
    """What was tried on any of them."""
    return list({result.name: result for worker in workers for result in worker.probes}.values())


@contextlib.contextmanager
def open_cluster(
    address: str, workshop: Workshop, sandbox_name: str, *, tell: Tell
) -> Iterator[Cluster]:
    """
    Make the workers of the scheduler at *address* ready for *workshop* while the block runs.

    Args:
        tell: Hears of workers that join later and cannot be used; called by another thread.

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
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise ClusterError(
            f"{address}: expected a Dask scheduler, as tcp://HOST:8786, found none ({error})"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=JOIN_S)
        except asyncio.TimeoutError as error:
            raise ClusterError(
                f"{address}: the scheduler is there, but no worker joined in {JOIN_S:.0f} s"
            ) from error
        with _equipped(client, name, Equipment(name, workshop, sandbox_name)):
            cluster = Cluster(client, name, workshop, tell)
            with _watched(cluster):
                yield cluster


@contextlib.contextmanager
def _equipped(client: Client, name: str, equipment: Equipment) -> Iterator[None]:
    """
    Give *equipment* to the workers for as long as the block runs, and this process lives.

    Raises:
        ClusterError: A worker cannot take it.
    """
    try:
        try:
            _refuse_other_nbassay(client)
            _take_away(client, name)
            client.register_plugin(equipment, name=name)
        except AssayError:
            raise
        except Exception as error:
            raise ClusterError(
                f"the workers could not be made ready ({error!r}); look at their logs, then give "
                "the same command again"
            ) from error
        yield
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.unregister_worker_plugin(name)


def _refuse_other_nbassay(client: Client) -> None:
    def version_there() -> str:  # Dask sends it as code, since it is not a module's
        from importlib import metadata

        return metadata.version("nbassay")

    told = client.run(version_there, on_error="return")
    for address, version in sorted(told.items()):
        if not isinstance(version, _GONE) and version != version_there():
            raise ClusterError(
                f"worker {address}: expected nbassay {version_there()}, found "
                f"{version if isinstance(version, str) else repr(version)}; install it there: pip "
                "install 'nbassay[cluster,tensorflow]'"
            )


def _take_away(client: Client, name: str) -> None:
    """
    Let the scheduler take the workers' equipment from them when *client* is gone, however it ended.

    A class in a function is sent as code: a scheduler need not have nbassay. One of another Python
    may not read it, or may be told to take none; then only a command that is killed leaves a trace.
    """
    from distributed import SchedulerPlugin

    class TakeAway(SchedulerPlugin):  # type: ignore[misc]
        def remove_client(self, scheduler: Scheduler, client: str) -> None:
            if client == owner:
                scheduler.remove_plugin(called)
                if name in scheduler.worker_plugins:
                    scheduler.loop.add_callback(
                        scheduler.unregister_worker_plugin, comm=None, name=name
                    )

    owner, called = client.id, f"{name}-take-away"
    try:
        client.register_plugin(TakeAway(), name=called)
    except Exception:
        _log.warning("a killed command will leave its equipment on workers", exc_info=True)


@contextlib.contextmanager
def _watched(cluster: Cluster) -> Iterator[None]:
    ended = threading.Event()
    watch = threading.Thread(target=cluster.watch, args=[ended], name="watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def ready_one(address: str, told: Announcement | Unready, workshop: Workshop) -> Announcement:
    """
    The worker at *address*, if it is as this machine.

    Raises:
        ClusterError: It has other versions, or could not be made ready.
        SandboxError: It has no sandbox, or one whose walls do not hold.
    """
    if isinstance(told, Unready):
        raise (SandboxError if told.is_open else ClusterError)(f"worker {address}: {told.why}")
    if told.key != key_of(workshop, told.walls):
        raise ClusterError(
            f"worker {address}: expected the processor, Python, nbassay and packages of this "
            "machine, found others; install the same versions on both, or marks would depend on "
            "where a notebook ran"
        )
    broken = [result for result in told.probes if not result.holds]
    if broken:
        raise SandboxError(
            f"worker {address}: the sandbox {told.mode} does not hold: "
            + "; ".join(f"{result.name} ({result.detail})" for result in broken)
        )
    return told


def _refuse_other_mode(address: str, worker: Announcement, mode: str) -> None:
    if worker.mode != mode:
        raise ClusterError(
            f"worker {address}: expected one kind of sandbox on all workers, {mode}, found "
            f"{worker.mode}"
        )
