"""First process of a sandbox: closes what is left open, starts the program and ends in time.

Run as `python -I sandbox_init.py '{"limits": ..., "scratch": ...}' ARGV...`; a file of its own that
imports nothing of s2d, so that it starts at once.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
MOUNT_ATTR_RDONLY, MS_PRIVATE = 1, 1 << 18
MS_NOSUID, MS_NODEV = 2, 4
LAST_CAPABILITY = 63


class MountAttr(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def read_only_files(libc: ctypes.CDLL, scratch: str, scratch_bytes: int) -> None:
    """Make every file system read-only, with an empty one of bounded size at `scratch`.

    Raises:
        OSError: the kernel refuses.
    """
    attributes = MountAttr(MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, 0)
    size = ctypes.sizeof(attributes)
    if libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(attributes), size
    ):
        raise OSError(ctypes.get_errno(), "mount_setattr failed")
    options = f"size={scratch_bytes},mode=0700".encode()
    flags = MS_NOSUID | MS_NODEV
    if libc.mount(b"scratch", scratch.encode(), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), "mount of the scratch folder failed")


def wait(child: int, seconds: float) -> int:
    """The status of the program, 124 where it ran out of time; reaps whatever else ends here.

    When this process ends, Linux kills all others of its process namespace: a sandbox ends in time
    even if the process that started it is gone.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
            time.sleep(0.005)
    return 124


def main() -> None:
    """Apply the limits and run the program; a limit that cannot be applied ends in status 125."""
    start = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if start["isolated"]:
            read_only_files(libc, start["scratch"], start["scratch_bytes"])
            for capability in range(LAST_CAPABILITY + 1):
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        else:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS) failed")
        child = os.fork()
        if child:
            os._exit(wait(child, start["seconds"]))
        os.chdir(start["scratch"])
        for name, value in start["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
    except (OSError, ValueError) as error:
        print(f"the sandbox cannot be closed: {error}", file=sys.stderr)
        os._exit(125)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
