"""Slow and obvious forms of what the package computes fast; the checks compare with them.

T tokens, K chosen experts per token, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from research_eval.models._blocks import activate
from research_eval.models._dispatch import Experts


def naive_experts(
    experts: Experts,
    x_TD: Tensor,
    chosen_TK: Tensor,
    weights_TK: Tensor,
    kept_TK: Tensor | None = None,
) -> Tensor:
    """Return what `experts` should, by a loop over experts that gathers, multiplies and adds."""
    if kept_TK is not None:
        chosen_TK = chosen_TK.masked_fill(~kept_TK, -1)
    y_TD = torch.zeros_like(x_TD)
    for expert, (into_DG, out_FD) in enumerate(
        zip(experts.into_EDG.unbind(), experts.out_EFD.unbind(), strict=True)
    ):
        token_S, place_S = (chosen_TK == expert).nonzero(as_tuple=True)
        y_SD = activate(x_TD[token_S] @ into_DG, experts.activation) @ out_FD
        weighted_SD = y_SD * weights_TK[token_S, place_S, None]
        y_TD = y_TD.index_add(0, token_S, weighted_SD.to(y_TD.dtype))
    return y_TD
