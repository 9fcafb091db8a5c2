"""Who carries out tasks: this process, or several workers.

An executor is given tasks and asked what happened; it tells a listener.
"""

from research_eval.executors.here import Here
from research_eval.executors.joblist import Audience, run_here, run_in_workers
from research_eval.executors.pool import Pool, threads_each
from research_eval.executors.protocol import Executor, Listener

__all__ = [
    "Audience",
    "Executor",
    "Here",
    "Listener",
    "Pool",
    "run_here",
    "run_in_workers",
    "threads_each",
]
