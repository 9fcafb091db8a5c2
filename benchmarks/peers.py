r"""Layers of public packages, at the sizes of `models.py`; whoever lacks a package skips its row.

    pip install --no-deps mixture-of-experts st-moe-pytorch colt5-attention einops beartype \\
        torch_geometric requests                # torch and transformers are there already

T tokens, D width, E experts, H hyperedges.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

TOP_K = 2
Layer = tuple["nn.Module", Callable[["Tensor"], "Tensor"]]
"""A module and how it maps tokens [T, D] to tokens, or [T, E, D] for couplings."""


def mixtral(implementation: str, width: int, units: int, experts: int) -> Layer:
    """Return the experts layer of transformers' Mixtral: SwiGLU, dropless."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=width,
        intermediate_size=units,
        num_local_experts=experts,
        num_experts_per_tok=TOP_K,
        experts_implementation=implementation,
    )
    layer = MixtralSparseMoeBlock(config)
    for parameter in layer.parameters():
        parameter.data.normal_(std=0.02)
    return layer, lambda x_TD: layer(x_TD[None])[0]


def mixture_of_experts(width: int, units: int, experts: int) -> Layer:
    """Return the layer of `mixture-of-experts`: GELU, capacity 1.25, one-hot dispatch per row."""
    from mixture_of_experts import MoE
    from torch import nn

    layer = MoE(
        width, num_experts=experts, hidden_dim=units, activation=nn.GELU,
        second_policy_train="all",
    )  # fmt: skip
    return layer, lambda x_TD: layer(x_TD.view(-1, 128, width))[0].reshape(-1, width)


def st_moe(width: int, units: int, experts: int) -> Layer:
    """Return the layer of `st-moe-pytorch`: GEGLU of equal FLOPs, capacity, loop over experts."""
    from st_moe_pytorch import MoE

    layer = MoE(
        width,
        num_experts=experts,
        expert_hidden_mult=units / width,
        gating_top_n=TOP_K,
        threshold_train=0.0,
    )
    return layer, lambda x_TD: layer(x_TD.view(-1, 128, width)).outputs.reshape(-1, width)


def hypergraph_conv(width: int, members: list[tuple[int, ...]], tokens: int) -> Layer:
    """Return torch_geometric's HypergraphConv on one hypergraph per token, as one large graph."""
    import torch
    from torch_geometric.nn import HypergraphConv

    experts = 1 + max(max(edge) for edge in members)
    node_P = torch.tensor([expert for edge in members for expert in edge])
    edge_P = torch.tensor([e for e, edge in enumerate(members) for _ in edge])
    token_T1 = torch.arange(tokens)[:, None]
    incidence_2P = torch.stack(
        [
            (node_P + experts * token_T1).flatten(),
            (edge_P + len(members) * token_T1).flatten(),
        ]
    )
    layer = HypergraphConv(width, width)
    return layer, lambda x_TED: layer(
        x_TED.flatten(0, 1), incidence_2P.to(x_TED.device), num_edges=len(members) * tokens
    ).view_as(x_TED)


PEERS = {
    "Mixtral eager": (mixtral, "eager", "transformers"),
    "Mixtral grouped_mm": (mixtral, "grouped_mm", "transformers"),
    "mixture-of-experts": (mixture_of_experts, None, "mixture-of-experts"),
    "st-moe-pytorch": (st_moe, None, "st-moe-pytorch"),
}
"""Experts layers by name: the factory, its first argument if it takes one, the package."""


def named(peer: str, width: int, units: int, experts: int) -> Layer:
    """Return a peer's experts layer.

    Raises:
        ImportError: If its package is not installed.
    """
    factory, first, _ = PEERS[peer]
    arguments = () if first is None else (first,)
    return factory(*arguments, width, units, experts)


def package_of(peer: str) -> str:
    """Return the name and version of a peer's package."""
    package = PEERS[peer][2] if peer in PEERS else "torch_geometric"
    return f"{package} {version(package)}"
