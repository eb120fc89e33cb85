"""Run the main function of a script and report its errors to the user."""

from __future__ import annotations

import sys
from collections.abc import Callable

from utils.system.errors import Stopped, UserError
from utils.system.signals import ignore_requests_to_save


def run(main: Callable[[], None]) -> None:
    """Call `main`; a `UserError` ends the program with its line on stderr and status 2.

    A stop by a signal ends it with 128 and the signal's number, as shells report signals.
    """
    ignore_requests_to_save()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        if str(stop):  # of several processes one tells
            print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
