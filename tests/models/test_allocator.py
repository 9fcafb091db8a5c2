"""The allocator is tuned in a fresh process, says so, and can be left alone."""

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import json, resource
if "{first}": import torch
from research_eval.allocator import tune_allocator
said = tune_allocator()
import torch
x = torch.ones(4_000_000)
for _ in range(30):
    x + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    x + 1
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([said, faults]))
"""


def probe(first="", **environment):
    clean = {k: value for k, value in os.environ.items() if k != "RESEARCH_EVAL_ALLOCATOR"}
    command = [sys.executable, "-c", PROBE.format(first=first)]
    found = subprocess.run(
        command, env={**clean, **environment}, check=True, capture_output=True, text=True
    )
    return json.loads(found.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is a Linux library")
@pytest.mark.parametrize("first", ["", "torch"])
def test_temporaries_are_not_faulted_in_again(first):
    said, faults = probe(first)
    assert said.startswith("allocator: freed memory is kept (")
    assert faults < 1000  # ten temporaries of 3,906 pages each


def test_it_can_be_left_alone():
    said, _ = probe(RESEARCH_EVAL_ALLOCATOR="default")
    assert said == "allocator: system default (RESEARCH_EVAL_ALLOCATOR=default)"


GROWTH = """
from pathlib import Path
from research_eval.allocator import tune_allocator
tune_allocator()
import torch
def megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))
rng, held, seen = torch.Generator().manual_seed(0), [], []
for step in range(400):
    # As the slices of experts: never twice of one size, and not freed in order.
    size = int(torch.randint(2**19, 2**22, (1,), generator=rng))
    held.append(torch.ones(size))
    if len(held) > 24:
        del held[int(torch.randint(len(held), (1,), generator=rng))]
    if step in (100, 399):
        seen.append(megabytes())
print(*seen)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_from_step_to_step():
    done = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True)
    early, late = map(int, done.stdout.split())
    assert late < 1.6 * early
