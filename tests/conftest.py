"""Settings that all tests share."""

import os
import signal

from hypothesis import settings

# Tests run in two processes: one thread each, in what they start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts programs in the background with SIGINT ignored, which they would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, and none failed for being slow.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
