"""Keep freed memory in the process, for the arrays that follow.

glibc returns large blocks to the system when they are freed. To get one back, page by page and with
a lock that all threads share, takes up to a fourth of the time of a batch, of a frame of a film or
of a photograph of 1 megapixel, and half of a step of TensorFlow, which lowers glibc's limits when
it starts to read batches. It leaves alone how many blocks may be mapped on their own: of none, most
freed memory is kept.
"""

import ctypes
import functools
import sys

KEPT = 2**28
"""Bytes of freed memory that are kept, at least."""

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Numbers of these settings in glibc's malloc.h."""


@functools.cache
def keep_freed():
    """Keep freed memory from now on, for work that needs as much again and again.

    The largest amount of memory in use grows by up to a third. Without glibc, nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_MAX, 0)
