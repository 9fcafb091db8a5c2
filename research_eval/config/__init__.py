"""A configuration: what its fields are, how it is read, and what identifies it."""

from research_eval.config.experiment import ExperimentConfig
from research_eval.config.identity import canonical_json, config_hash, json_schema
from research_eval.config.loading import Experiment, load_file, load_text, read_tree, validate

__all__ = [
    "Experiment",
    "ExperimentConfig",
    "canonical_json",
    "config_hash",
    "json_schema",
    "load_file",
    "load_text",
    "read_tree",
    "validate",
]
