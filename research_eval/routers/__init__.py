"""Ways to choose experts: one file each, ending in `SPEC`."""
