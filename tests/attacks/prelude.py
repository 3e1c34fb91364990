# The first cell of every attack: what there is to be reached, and how an attempt is told.
import os  # noqa: F401  # for the scripts

BAIT = "@BAIT@"
MISTAKES = (NameError, TypeError, AttributeError, KeyError, ImportError)


def attempt(name, what):
    try:
        got = what()
    except MISTAKES as error:  # of the attack's own: it was never made
        print("BROKEN", name, type(error).__name__, error)
    except BaseException as error:
        print("HELD", name, type(error).__name__)
    else:
        print("GOT", name, ascii(got)[:300])


def must(name, is_so):
    print("HELD" if is_so else "GOT", name)


def call(number, *arguments):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    returned = libc.syscall(*(ctypes.c_long(one) for one in (number, *arguments)))
    if returned < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return returned


attempt("run on the host", lambda: open(BAIT["folder"] + "/ran-" + BAIT["attack"], "x"))
