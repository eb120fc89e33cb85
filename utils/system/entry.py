"""Run the main function of a program and report its errors to the user."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from utils.system.errors import Stopped, UserError
from utils.system.signals import exit_status, ignore_save_requests
from utils.system.text import print_line

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report it


def run(main: Callable[[], None]) -> None:
    """Call `main` and exit: a UserError prints its line on stderr, with status 2.

    A signal exits with 128 plus its number, as shells report it. Nothing is printed when the
    reader of stdout has gone.
    """
    ignore_save_requests()
    prepare_streams()
    try:
        with os_errors():
            main()
    except UserError as error:
        _exit(f"error: {error}", 2)
    except Stopped as stop:
        _exit(str(stop), stop.status)
    except KeyboardInterrupt:
        _exit("interrupted", exit_status(2))


def prepare_streams() -> None:
    """Open closed standard streams on the null device, and replace `sys.stdout` by a safer one.

    Otherwise the next file opened would become stdout. The new stdout encodes any character,
    whatever the locale, and remembers its own error for `os_errors`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(number, True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if sys.stdout is sys.__stdout__:  # not one that a test captures
        encoding = sys.stdout.encoding if sys.stdout else None
        raw = _Stdout(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty()
        )


class _Stdout(io.FileIO):
    """File descriptor 1; `failure` is the error of the last write that failed."""

    failure: OSError | None = None

    def write(self, content: bytes) -> int | None:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def os_errors() -> Iterator[None]:
    """Turn an OSError that nothing has handled into Stopped or a UserError.

    Stopped: the reader of stdout has gone. UserError: stdout cannot be written, or the error names
    a file. Any other OSError passes.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
        if error is not getattr(raw, "failure", None):
            if error.filename is None:
                raise
            raise UserError(f"{os.fsdecode(error.filename)}: {error.strerror}") from error
        _discard_stdout()
        if isinstance(error, BrokenPipeError):
            raise Stopped("", BROKEN_PIPE) from None
        raise UserError(f"cannot write to stdout ({error.strerror}); redirect it") from error


def _discard_stdout() -> None:
    """Send stdout to the null device, so that the interpreter's last flush does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _exit(line: str, status: int) -> None:
    """Exit with `status` after printing `line`, unless it is empty, on stderr."""
    with suppress(OSError):
        if line:
            print_line(line, sys.stderr)
    sys.exit(status)
