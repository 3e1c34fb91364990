"""What a cell showed, as the box sent it: a CELL frame becomes a few texts, or is refused."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from nbassay.errors import EvidenceError
from nbassay.records import Count

MOST_OUTPUTS = 10_000
"""Of one cell that are kept."""
MOST_TRACEBACK_BYTES = 1 << 20
"""Of one error, as JSON; a longer one is left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellOutputs:
    """Outputs of one cell."""

    index: int
    """Position in the notebook, 0 first."""
    outputs: list[dict[str, Any]]
    """As nbformat has them; only the keys that `nbassay.executed` looks at."""


class _Data(Struct):
    plain: Raw = msgspec.field(default=Raw(), name="text/plain")
    png: Raw = msgspec.field(default=Raw(), name="image/png")


class _Output(Struct):
    # The only key that must be there: so an output takes more bytes of a frame than of memory.
    output_type: Literal["stream", "display_data", "execute_result", "error"]
    name: Raw = Raw()
    text: Raw = Raw()
    ename: Raw = Raw()
    evalue: Raw = Raw()
    traceback: Raw = Raw()
    data: _Data | None = None


class _Cell(Struct):
    index: Count
    outputs: list[_Output]


_decode_cell = msgspec.json.Decoder(_Cell).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_lines = msgspec.json.Decoder(list[str]).decode


def decode_outputs(payload: bytes) -> CellOutputs:
    """
    Outputs in a CELL frame; values that are no text, and what is not looked at, are left out.

    Raises:
        EvidenceError: It is none.
    """
    try:
        cell = _decode_cell(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceError(f"outputs of no cell: {error}") from error
    return CellOutputs(
        index=cell.index, outputs=[_plain(one) for one in cell.outputs[:MOST_OUTPUTS]]
    )


def _plain(output: _Output) -> dict[str, Any]:
    plain: dict[str, Any] = {"output_type": output.output_type}
    for name in ("name", "text", "ename", "evalue"):
        _put(plain, name, getattr(output, name), _decode_text)
    if len(memoryview(output.traceback)) <= MOST_TRACEBACK_BYTES:
        _put(plain, "traceback", output.traceback, _decode_lines)
    if output.data is not None:
        data: dict[str, Any] = {}
        plain["data"] = data
        _put(data, "text/plain", output.data.plain, _decode_text)
        _put(data, "image/png", output.data.png, _decode_text)
    return plain


def _put(where: dict[str, Any], name: str, value: Raw, decode: Any) -> None:
    if len(memoryview(value)):
        try:
            where[name] = decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # no text: nothing that is kept
