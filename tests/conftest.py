"""Settings that all tests share."""

from hypothesis import settings

# The same examples on every machine, and none failed for being slow.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")
