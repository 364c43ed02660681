"""File systems of their own, small enough to be full; where the machine lets us make them."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# No database writes less at once, so where this does not fit nothing does.
PAGE = 4096


@cache
def may_mount() -> bool:
    """Only root may, and in a container perhaps not even root."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(subprocess.CalledProcessError, OSError), mounted(Path(folder), 2**20):
        return True
    return False


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes, in memory, on a folder that is there."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: int) -> None:
    """Give a mounted file system another size; what lies on it stays."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write a file until there is no room for another page."""
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE))
