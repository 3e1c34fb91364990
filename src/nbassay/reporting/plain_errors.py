"""What stopped a notebook, in words that a learner can act on."""

from __future__ import annotations

import re
from collections.abc import Callable

from nbassay.reporting.text import one_line

_QUOTED = re.compile(r"['\"‘“]([^'\"’”]{1,80})['\"’”]")


def plain_stop(status: str, name: str | None, message: str | None) -> str:
    """
    Say in plain words why a cell did not end well.

    Args:
        status: How the cell ended: ``error``, ``timeout``, ``not-run``.
        name: Class name of the error, None when there was none.
        message: Its text as Python printed it.
    """
    if status == "timeout":
        return (
            "The cell ran longer than it may and was stopped. Look for a loop that never ends, "
            "for input() waiting for an answer, or for training that does far more than the lab "
            "asks."
        )
    if status == "not-run":
        return "This cell was never run, because the notebook had ended before it."
    return plain_error(name, message)


def plain_error(name: str | None, message: str | None) -> str:
    """
    Say in plain words what an error means and where to look.

    Args:
        name: Class name of the error: ``NameError``; None when it is not known.
        message: Its text as Python printed it.
    """
    short_name = (name or "").rpartition(".")[2]
    words = one_line(message or "")
    for pattern, sentence in _BY_MESSAGE:
        if pattern.search(words):
            return sentence
    explain = _BY_NAME.get(short_name)
    if explain is not None:
        return explain(words)
    shown = f" with {one_line(short_name, limit=60)}" if short_name else ""
    return (
        f"The cell stopped{shown}. Read the last line of the message first: it says what Python "
        "could not do. Then look at the line of the cell that it points to."
    )


def _quoted(message: str) -> str | None:
    found = _QUOTED.search(message)
    return found.group(1) if found else None


def _name_error(message: str) -> str:
    name = _quoted(message)
    what = f"the name {name}" if name else "a name"
    return (
        f"The cell used {what} before anything had that name. Check its spelling (capitals count), "
        "and that the cell which creates it comes earlier and ran without an error."
    )


def _module_not_found(message: str) -> str:
    module = _quoted(message)
    what = f"The package {module}" if module else "A package that the cell imports"
    return (
        f"{what} is not installed where notebooks are graded. Check its spelling; if it is spelled "
        "right, do the step with the packages that the lab names."
    )


def _import_error(message: str) -> str:
    name = _quoted(message)
    what = f"{name} could not be imported" if name else "Something could not be imported"
    return (
        f"{what}: the package is there, but has nothing of that name. Check the spelling, and "
        "whether the example you followed was written for another version."
    )


def _file_not_found(message: str) -> str:
    path = _quoted(message)
    what = f"The file {path}" if path else "A file that the cell reads"
    return (
        f"{what} was not there. Read the lab's data from where the lab says it is, not from a "
        "folder of your own computer."
    )


def _attribute_error(message: str) -> str:
    if "'NoneType'" in message:
        return (
            "A value was None where an object was expected. Often a function that changes things "
            "in place and returns nothing was assigned to a name, or an earlier step did not run."
        )
    quoted = _QUOTED.findall(message)
    if len(quoted) >= 2:
        return (
            f"The cell asked a {quoted[0]} for {quoted[1]}, which it does not have. Check the "
            f"spelling, and that the value really is what you think it is."
        )
    return (
        "The cell asked an object or a module for something that it does not have. Check the "
        "spelling, and that the value really is what you think it is."
    )


def _key_error(message: str) -> str:
    return (
        f"There is no entry {message[:80]} in that dictionary or table. Print its keys and compare."
        if message
        else "A dictionary or table has no such entry. Print its keys and compare."
    )


def _value_error(message: str) -> str:
    return (
        "The value had the right type but could not be used. Print its shape, its dtype and its "
        "smallest and largest number just before the line that failed."
    )


def _said(sentence: str) -> Callable[[str], str]:
    return lambda message: sentence


_SHAPES = (
    "The shape of an array does not fit what was asked of it. Print .shape just before the line "
    "that failed, and compare it with the shape that the lab's step ends with."
)
_MEMORY = (
    "The notebook needed more memory than it may use. Keep one copy of the data rather than many, "
    "and use float32 instead of float64."
)
_PYTHON_ENDED = (
    "The whole Python process ended while this cell ran: exit(), a crash inside a library, or too "
    "little memory. Nothing after it could run."
)
_INTERRUPTED = (
    "The cell was interrupted before it was done, most likely because it took too long. Look for a "
    "loop that never ends, or for input() waiting for an answer."
)

# Looked at before the error's name: libraries raise ValueError for very different things.
_BY_MESSAGE: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"cannot reshape array|incompatible with the layer|shapes? .{0,80}(?:mismatch|"
            r"incompatible|not aligned|not compatible)|Incompatible shapes|"
            r"could not be broadcast|Data cardinality|inhomogeneous shape|"
            r"expected (?:axis|shape|min_ndim|ndim)|must have the same shape",
            re.IGNORECASE,
        ),
        _SHAPES,
    ),
    (
        re.compile(r"must (?:call `?compile|be compiled)|compile\(\)? ?.{0,40} before", re.I),
        "The model was used before it was compiled. Call compile (optimizer, loss, metrics) first.",
    ),
    (
        re.compile(r"has (?:never|not yet) been (?:called|built)|build the model first", re.I),
        "The model does not know its input shape yet. Give the first layer its input shape, or "
        "show the model data first.",
    ),
    (
        re.compile(
            r"Name or service not known|Temporary failure in name|Network is unreachable|"
            r"URL fetch failure|urlopen error|Max retries exceeded",
            re.IGNORECASE,
        ),
        "The cell tried to reach the internet, which is switched off while a notebook is graded. "
        "Read the data from the files that come with the lab.",
    ),
    (
        re.compile(r"Read-only file system", re.IGNORECASE),
        "The cell tried to write where it may not. Write into the notebook's own folder.",
    ),
    (re.compile(r"No space left on device", re.IGNORECASE),
     "The notebook wrote more to disk than it may."),
    (re.compile(r"raw_input was called", re.IGNORECASE),
     "The cell asked a question with input(). Nobody answers while a notebook is graded: put the "
     "value into the cell."),
    (re.compile(r"OOM when allocating|Unable to allocate", re.IGNORECASE), _MEMORY),
)  # fmt: skip

_BY_NAME: dict[str, Callable[[str], str]] = {
    "NameError": _name_error,
    "UnboundLocalError": _name_error,
    "ModuleNotFoundError": _module_not_found,
    "ImportError": _import_error,
    "FileNotFoundError": _file_not_found,
    "AttributeError": _attribute_error,
    "KeyError": _key_error,
    "ValueError": _value_error,
    "InvalidArgumentError": _value_error,
    "SyntaxError": _said(
        "Python could not read the cell: something is misspelled or missing. Look at the marked "
        "place and just before it for a bracket, quote, comma or colon."
    ),
    "IndentationError": _said(
        "The lines of the cell are not indented the way Python expects. Lines that belong together "
        "start in the same column; use spaces only."
    ),
    "TabError": _said("The cell mixes tabs and spaces at the start of lines. Use spaces only."),
    "TypeError": _said(
        "A function or operator was given a kind of value that it cannot work with, or the wrong "
        "number of arguments. Compare the call with the lab's text, one argument at a time."
    ),
    "IndexError": _said(
        "The cell asked for an element beyond the end. Counting starts at 0, so an array of n rows "
        "ends at row n − 1; check that the array has the shape you expect."
    ),
    "ZeroDivisionError": _said("Something was divided by zero. Print the divisor just before."),
    "OverflowError": _said("A number became too large for its type."),
    "RecursionError": _said("A function kept calling itself without an end."),
    "PermissionError": _said(
        "The cell tried to read or write where it may not. The lab's data can be read; write only "
        "into the notebook's own folder."
    ),
    "IsADirectoryError": _said("The path is a folder where a file was expected."),
    "NotADirectoryError": _said("The path is a file where a folder was expected."),
    "UnicodeDecodeError": _said(
        "A file was read as text but holds other bytes. Open data files in binary mode ('rb')."
    ),
    "BadGzipFile": _said(
        "The file was read as gzip but is not compressed. Open it with open(…, 'rb') instead."
    ),
    "EOFError": _said("A file or a question ended before there was anything to read."),
    "MemoryError": _said(_MEMORY),
    "ResourceExhaustedError": _said(_MEMORY),
    "KeyboardInterrupt": _said(_INTERRUPTED),
    "TimeoutError": _said(_INTERRUPTED),
    "CellTimeoutError": _said(_INTERRUPTED),
    "KernelDied": _said(_PYTHON_ENDED),
    "DeadKernelError": _said(_PYTHON_ENDED),
    "SystemExit": _said(
        "The cell ended Python with exit() or quit(). Remove that line: what follows never ran."
    ),
    "AssertionError": _said(
        "A line that begins with assert found its condition to be false. That line tells what was "
        "expected."
    ),
    "NotImplementedError": _said(
        "The cell reached a place that is still to be written, or asked for something that does "
        "not exist in this version."
    ),
    "StdinNotImplementedError": _said(
        "The cell asked a question with input(). Nobody answers while a notebook is graded: put "
        "the value into the cell."
    ),
    "CalledProcessError": _said(
        "A command that the cell started did not succeed. Commands such as pip or wget have no "
        "network while a notebook is graded, and the lab does not need them."
    ),
}
