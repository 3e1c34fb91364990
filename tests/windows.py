"""
A Python that lacks what Windows lacks, for `test_windows.py`: run as a program of its own.

``windows.py cli ARGUMENTS…`` is the command line, ``windows.py judge FOLDER NONCE`` the process
behind ``%assay``, and ``windows.py cells CELL…`` runs cells in an IPython shell. Libraries are
imported first: how they do on Windows is for their own tests.
"""

import importlib
import pkgutil
import sys
import sysconfig
import types

NO_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
OS = """
O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC WNOHANG chown chroot fchown fork forkpty
getegid geteuid getgid getgroups getloadavg getpgid getpgrp getresuid getsid getuid initgroups
killpg lchown memfd_create mkfifo mknod nice openpty pidfd_open pipe2 pread pwrite readv
sched_getaffinity sched_setaffinity sendfile setegid seteuid setgid setpgid setpriority setsid
setuid statvfs sync sysconf ttyname uname wait wait3 wait4 waitid
"""
SIGNAL = """
SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 SIGXCPU SIGXFSZ alarm
pause pidfd_send_signal pthread_kill pthread_sigmask setitimer sigpending sigtimedwait sigwait
sigwaitinfo
"""
NO_NAMES = {
    "os": set(OS.split()),
    "signal": set(SIGNAL.split()),
    "select": {"devpoll", "epoll", "kqueue", "poll"},
}
NOT_OURS_TO_IMPORT = ("nbassay.inside", "nbassay.__main__", "nbassay.cluster")
"""What runs inside a box, or needs packages that may not be there."""


class Lacking(types.ModuleType):
    """A module without some of its names."""

    def __init__(self, name):
        super().__init__(name)
        self.__dict__["real"] = sys.modules[name]

    def __getattr__(self, name):
        if name in NO_NAMES[self.__name__]:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name)
        return getattr(self.real, name)


class Absent:
    """Finds no module that Windows has not."""

    def find_spec(self, name, path=None, target=None):
        if name in NO_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def import_everything():
    """Import all modules of ours, and so all libraries that they need."""
    import nbassay

    for module in pkgutil.walk_packages(nbassay.__path__, "nbassay."):
        if not module.name.startswith(NOT_OURS_TO_IMPORT):
            importlib.import_module(module.name)
    for name in ("nbassay.inside.observer", "nbassay.inside.channel"):
        importlib.import_module(name)


def become_windows():
    """Forget all modules of ours, and take away what is not there on Windows."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "nbassay"]:
        del sys.modules[name]
    for name in NO_MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent())
    for name in NO_NAMES:
        sys.modules[name] = Lacking(name)
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK = 2
    msvcrt.locking = lambda descriptor, mode, count: None
    sys.modules["msvcrt"] = msvcrt
    sys.platform = "win32"


def main():
    mode, *arguments = sys.argv[1:]
    import_everything()
    sysconfig.get_config_vars()  # of this Python, whatever it is to look like
    if mode == "cells":
        from IPython.core.interactiveshell import InteractiveShell

        shell = InteractiveShell.instance()
    become_windows()
    sys.argv = ["nbassay", *arguments]
    if mode == "cli":
        importlib.import_module("nbassay.cli").main()
    elif mode == "judge":
        importlib.import_module("nbassay.live.judge").main()
    else:
        for cell in arguments:
            shell.run_cell(cell, store_history=True)


main()
