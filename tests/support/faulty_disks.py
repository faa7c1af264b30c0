"""File systems that fail: a full one and a read-only one, where this machine can mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A real file system of 4 MiB at `folder`, where this process may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "s2d-tests", str(folder)]
    mounted = shutil.which("mount") is not None and (
        subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def read_only(folder: Path, *command: object) -> list[str]:
    """A command in a mount namespace of its own in which `folder` cannot be written, even by root.

    Permissions do not hold root back; a mount does.
    """
    return ["unshare", "-rm", "sh", "-c", _READ_ONLY, str(folder), *map(str, command)]


@cache
def can_mount_read_only(folder: Path) -> bool:
    """Whether this machine lets an unprivileged process make such a namespace."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(read_only(folder, "true"), capture_output=True, check=False)
    return done.returncode == 0
