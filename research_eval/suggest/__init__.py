"""What to run next: configurations that past runs make promising, each with its reason.

A suggestion is an ordinary configuration file. `past` reads what is on record, `search` and
`portfolio` choose points, `suggesting` makes configurations of them.
"""
