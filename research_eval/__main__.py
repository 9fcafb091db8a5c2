"""`python -m research_eval` is the command `research-eval`."""

import sys

from research_eval.cli import main

if __name__ == "__main__":  # worker processes import this module again
    sys.exit(main())
