"""How the next token is chosen."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from research_eval.knobs import Params


class Decoding(Params):
    """How much is written, and how each token is drawn from what the model expects."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 100
    """Tokens to write at most."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Scores are divided by it; 1 draws from what was learned, 0 takes the most probable token."""

    top_k: Annotated[int | None, Field(ge=1)] = None
    """Draw among the k most probable tokens only."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw among the fewest tokens whose probabilities add up to p (Holtzman et al. 2020)."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of the draws; each prompt has its own, whatever is written beside it."""
