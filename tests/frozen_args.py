"""Parsed flags that nothing may write to."""

from argparse import Namespace


class FrozenArgs(Namespace):
    """A copy of parsed flags that raises AttributeError when one is set or deleted."""

    def __init__(self, args):
        self.__dict__.update(vars(args))

    def __setattr__(self, name, value):
        raise AttributeError(f"the flags are written to: {name} = {value!r}")

    def __delattr__(self, name):
        raise AttributeError(f"a flag is deleted: {name}")
