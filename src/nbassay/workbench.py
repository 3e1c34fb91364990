"""What a machine needs at hand to run a workshop's notebooks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from nbassay.pristine import Pristine, read_pristine, unpack_data
from nbassay.sandbox import Sandbox
from nbassay.scratch import scratch
from nbassay.workshop import Workshop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workbench:
    """A workshop with its data laid out, and a sandbox; many notebooks may run at once."""

    workshop: Workshop
    pristine: Pristine
    data_folder: Path
    """The lab's raw files on this machine (see `nbassay.pristine.unpack_data`)."""
    sandbox: Sandbox


@contextlib.contextmanager
def workbench(workshop: Workshop, sandbox: Sandbox) -> Iterator[Workbench]:
    """
    Lay out the workshop's data for as long as the block runs.

    Raises:
        DataError: Lab data are missing or not the pinned ones.
        OutputError: There is no room for them.
    """
    pristine = read_pristine(workshop)
    with scratch("data") as data:
        data.chmod(0o755)  # a box that runs as another user reads them
        unpack_data(workshop, data)
        try:
            yield Workbench(workshop=workshop, pristine=pristine, data_folder=data, sandbox=sandbox)
        finally:
            sandbox.close()
