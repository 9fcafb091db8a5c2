"""The data sets: one file each, ending in `SPEC`. Files with an underscore are shared."""
