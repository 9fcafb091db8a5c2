"""Curves to record, and what a test looks for in an explanation."""

import shlex

import numpy as np
import typer

from research_eval.cli import app


def line(start, end, steps=100, points=41):
    """Return a straight curve."""
    values = np.linspace(start, end, points)
    return {
        round(step): float(value)
        for step, value in zip(np.linspace(1, steps, points), values, strict=True)
    }


def found(explanation, name):
    """Return the finding of a rule, None if there is none."""
    return next((each for each in explanation.findings if each.rule.name == name), None)


def require_parses(text):
    """Check that the command line reads a printed command, without carrying it out."""
    program, *words = shlex.split(text)
    assert program == "research-eval"
    command, context = typer.main.get_command(app), None
    name = program
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        name, command, words = command.resolve_command(context, rest)
