"""The flags of reports."""

from __future__ import annotations

from dataclasses import dataclass

from utils.analysis.energy import AC_PJ, MAC_PJ, Prices
from utils.analysis.summary import ReportOptions
from utils.system.flags import above, fraction


@dataclass(frozen=True)
class ReportFlags:
    """The values of the flags of a report."""

    report: bool
    stop_confidence: float | None
    mac_pj: float
    ac_pj: float

    @property
    def options(self) -> ReportOptions:
        """The options of the report."""
        return ReportOptions(self.stop_confidence, Prices(self.mac_pj, self.ac_pj))


def add_report(group) -> None:
    """Add the flags of a report at the end of a run."""
    group.add_argument(
        "--report", action="store_true", help="write a report on the best checkpoint, or with -e"
    )
    add_report_options(group)


def add_report_options(group) -> None:
    """Add what a report computes."""
    group.add_argument(
        "--stop_confidence",
        type=fraction,
        metavar="P",
        help="report accuracy and steps where images stop at this softmax confidence",
    )
    group.add_argument(
        "--mac_pj", type=above(0), default=MAC_PJ, help="energy of a multiply-accumulate, in pJ"
    )
    group.add_argument(
        "--ac_pj", type=above(0), default=AC_PJ, help="energy of an accumulate, in pJ"
    )
