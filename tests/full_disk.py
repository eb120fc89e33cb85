"""A full disk, simulated by a limit on the size of files."""

import resource
from contextlib import contextmanager


@contextmanager
def largest_file(size):
    """Inside the context, no file can grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
