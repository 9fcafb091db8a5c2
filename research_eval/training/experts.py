"""Records what experts do during training and raises flags when they collapse."""

from __future__ import annotations

from collections.abc import Mapping

from research_eval.diagnostics.collapse import CollapseWatch, Moment
from research_eval.diagnostics.totals import ExpertReport
from research_eval.records import Recorder


class ExpertRecords:
    """Passes reports on to a recorder and remembers the flags that they raise.

    Args:
        recorder: Where arrays and flags go.
        memory: Of the rules about collapse; kept in resume points.
        learned: Whether the network has a router that should learn.
        warmup_steps: Steps before which nothing is judged.

    Attributes:
        flags: Reasons by name, of all rules broken so far in this process.
    """

    def __init__(
        self, recorder: Recorder, memory: dict[str, float], *, learned: bool, warmup_steps: int
    ) -> None:
        self._recorder = recorder
        self._watch = CollapseWatch(memory, learned=learned)
        self._warmup_steps = warmup_steps
        self.flags: dict[str, str] = {}

    def evaluated(self, report: ExpertReport, *, step: int, is_last: bool) -> None:
        """Record the arrays of an evaluation and judge it."""
        for name, by_layer in report.arrays.items():
            for layer, values in by_layer.items():
                self._recorder.log_array(name, values, layer=layer, step=step)
        moment = Moment(step, self._warmup_steps, is_last)
        self._raise(self._watch.evaluation(report, moment))

    def trained(self, means: Mapping[str, float]) -> None:
        """Judge a window of training steps."""
        self._raise(self._watch.training(means))

    def _raise(self, flags: Mapping[str, str]) -> None:
        for name, reason in flags.items():
            self._recorder.flag(name, reason)
        self.flags |= flags
