"""Contracts as test suites: subclass one, supply its fixture, and your component is tested.

They need pytest, and are the same suites that this package runs over its own components. The
promises themselves (`*_checks`) and `examination`, which `research-eval check` shows, do not.
"""
