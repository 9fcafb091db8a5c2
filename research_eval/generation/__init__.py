"""Text from a recorded language model."""

from research_eval.generation.decoding import Decoding
from research_eval.generation.writing import Continuation, Writer, generate

__all__ = ["Continuation", "Decoding", "Writer", "generate"]
