"""What can be asked of a study by name; loads nothing, so that `--help` may show it."""

DEFAULT_NAME = "research_eval_study"
DEFAULT_TRIALS = 100
SAMPLERS = ("auto", "tpe", "gp", "random", "grid")
PRUNERS = ("auto", "asha", "median", "hyperband", "wilcoxon", "none")
