"""Text from a recorded language model: `Decoding` says how, `research_eval.generate` does it."""

from research_eval.generation.decoding import Decoding

__all__ = ["Decoding"]
