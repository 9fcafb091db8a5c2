"""Defaults of a comparison; loads nothing, so that `--help` may show them."""

from pathlib import Path

DEFAULT_AXIS = "active_params"
DEFAULT_TRIALS = 30
DEFAULT_SEEDS = 5
REPORTS = Path("analysis_reports")
