"""Settings that all tests share."""

import os

from hypothesis import settings

# Tests run in two processes: one thread each, in what they start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every machine, and none failed for being slow.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
