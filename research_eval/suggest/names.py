"""What suggestions can be asked for by name; loads nothing, so that `--help` may show it."""

STRATEGIES = ("auto", "perturb", "gp", "tpe", "random")
DEFAULT_FOLDER = "suggested_configs"
