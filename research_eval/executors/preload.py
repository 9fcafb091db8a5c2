"""What every worker needs and takes seconds to import, loaded once by the server that forks them.

Nothing here may touch a GPU or start a thread: neither survives a fork.
"""

from __future__ import annotations

import importlib
import pkgutil

import torch._dynamo  # noqa: F401 - every optimizer imports it, which takes 2.6 s

from research_eval import datasets, models, routers
from research_eval.executors import pool  # noqa: F401 - what a worker is
from research_eval.store import database  # noqa: F401 - what it writes to

for _folder in (models, datasets, routers):
    for _module in pkgutil.iter_modules(_folder.__path__):
        if not _module.name.startswith("_"):
            importlib.import_module(f"{_folder.__name__}.{_module.name}")
