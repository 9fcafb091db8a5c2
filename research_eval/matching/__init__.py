"""Configurations of equal cost: another architecture, scaled until it costs as much.

`arms.match` makes one from a whole configuration; `scaling.Scaling` scales what is there already;
`target` alone needs no torch.
"""
