"""One colour for each architecture, in figures and on pages, legible without full colour vision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_OWN = {
    "dense": "#0072B2",
    "moe": "#D55E00",
    "goe": "#009E73",
    "goe_original": "#CC79A7",
    "gnn_moe": "#7F6A00",
    "hgnn_moe": "#56B4E9",
}
_OTHERS = ("#882255", "#E69F00", "#332288", "#44AA99", "#999933", "#000000")
"""For plug-ins. Both are from Wong 2011 (Nature Methods 8:441) and Tol's "muted" scheme."""


def colours(arms: Iterable[str]) -> dict[str, str]:
    """Return the colour of each arm; an arm keeps its colour whatever else is drawn.

    Of a plug-in it follows from its name, and moves on only where another one has taken it.
    """
    found: dict[str, str] = {}
    for arm in sorted(set(arms)):
        if arm in _OWN:
            found[arm] = _OWN[arm]
            continue
        first = hashlib.sha256(arm.encode()).digest()[0]
        order = [_OTHERS[(first + place) % len(_OTHERS)] for place in range(len(_OTHERS))]
        found[arm] = next((c for c in order if c not in found.values()), order[0])
    return found
