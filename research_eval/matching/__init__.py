"""Configurations of equal cost: another architecture, scaled until it costs as much.

`match` makes one from a whole configuration, `Scaling` scales any that is there already.
"""

from research_eval.matching.arms import Match, match
from research_eval.matching.cost import AXES, Cost, Counter
from research_eval.matching.scaling import Scaling, Target

__all__ = ["AXES", "Cost", "Counter", "Match", "Scaling", "Target", "match"]
