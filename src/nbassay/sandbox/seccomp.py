"""
A system-call filter for the box: a deny-list in classic BPF, made without libseccomp.

The walls of the box are its namespaces; this filter takes away the calls with which strangers'
code could look for a hole in them, and the ones that would let it keep memory which no process
shows (see `_DENIED`). Everything that Python, Jupyter and TensorFlow call stays allowed.
"""

from __future__ import annotations

import dataclasses
import errno
import platform
import struct

from nbassay.errors import SandboxError

_LOAD_WORD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
# struct seccomp_data: call number, architecture, instruction pointer, six 64-bit arguments. Both
# architectures are little-endian, so the low half of an argument comes first.
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_X32_BIT = 0x40000000

_NEW_NAMESPACES = 0x7E020000
"""Every CLONE_NEW* flag that clone takes (CLONE_NEWTIME exists for unshare and clone3 only)."""
_TERMINAL_INJECTIONS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: type into the terminal of whoever started us."""
_SOCKET_FAMILIES = (1, 2, 10, 16)
"""UNIX, INET, INET6, NETLINK. Others (VSOCK!) do not all end at the network namespace."""

# name: (x86_64, aarch64); None where the architecture has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # the file tree
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "fanotify_init": (300, 262),
    # namespaces
    "unshare": (272, 97),
    "setns": (308, 268),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # large or young parts of the kernel
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    # memory that belongs to no process's sum, so that the watch on memory would not see it
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Architecture:
    """What differs between processors."""

    audit: int
    """AUDIT_ARCH_*: what the kernel calls it."""
    column: int
    """Its place in `_DENIED`."""
    clone: int
    clone3: int
    ioctl: int
    socket: int


_ARCHITECTURES = {
    "x86_64": _Architecture(audit=0xC000003E, column=0, clone=56, clone3=435, ioctl=16, socket=41),
    "aarch64": _Architecture(
        audit=0xC00000B7, column=1, clone=220, clone3=435, ioctl=29, socket=198
    ),
}


def compile_filter(machine: str | None = None) -> bytes:
    """
    Compile the filter, ready for ``bwrap --seccomp FD``.

    Args:
        machine: Processor, as `platform.machine` names it; this one's by default.

    Returns:
        An array of ``struct sock_filter``. A call from another architecture's table (32-bit, x32)
        ends the process or fails, so that its numbers cannot be used to get around the list.

    Raises:
        SandboxError: There is no table for that processor.
    """
    machine = machine or platform.machine()
    architecture = _ARCHITECTURES.get(machine)
    if architecture is None:
        known = ", ".join(_ARCHITECTURES)
        raise SandboxError(
            f"no system-call filter for the processor {machine!r}; there is one for {known}"
        )
    program = [
        _load(_ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, architecture.audit, if_true=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _load(_NUMBER_AT),
    ]
    if machine == "x86_64":
        program += [_instruction(_JUMP_AT_LEAST, _X32_BIT, if_false=1), _refuse(errno.EPERM)]
    for numbers in _DENIED.values():
        number = numbers[architecture.column]
        if number is not None:
            program += _when_called(number, [_refuse(errno.EPERM)])
    # glibc falls back to clone, whose flags can be looked at: clone3 takes them by pointer.
    program += _when_called(architecture.clone3, [_refuse(errno.ENOSYS)])
    program += _when_called(
        architecture.clone,
        [
            _load(_FIRST_ARGUMENT_AT),
            _instruction(_JUMP_ANY_BIT, _NEW_NAMESPACES, if_false=1),
            _refuse(errno.EPERM),
            _allow(),
        ],
    )
    injections = [_load(_FIRST_ARGUMENT_AT + 8)]
    for request in _TERMINAL_INJECTIONS:
        injections += [_instruction(_JUMP_EQUAL, request, if_false=1), _refuse(errno.EPERM)]
    program += _when_called(architecture.ioctl, [*injections, _allow()])
    families = [_load(_FIRST_ARGUMENT_AT)]
    for family in _SOCKET_FAMILIES:
        families += [_instruction(_JUMP_EQUAL, family, if_false=1), _allow()]
    program += _when_called(architecture.socket, [*families, _refuse(errno.EAFNOSUPPORT)])
    return b"".join([*program, _allow()])


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """One ``struct sock_filter``; the jumps count instructions to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD_WORD, offset)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def _allow() -> bytes:
    return _instruction(_RETURN, _ALLOW)


def _when_called(number: int, body: list[bytes]) -> list[bytes]:
    """Run *body*, which must return on every way, if the call's number is *number*."""
    return [_instruction(_JUMP_EQUAL, number, if_false=len(body)), *body]
