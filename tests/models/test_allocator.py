"""The allocator is tuned in a fresh process, says so, and can be left alone."""

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import json, os, resource, sys
if "{first}": import torch
from research_eval.allocator import tune_allocator
said = tune_allocator()
import torch
x = torch.ones(4_000_000)
for _ in range(3):
    x + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    x + 1
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([said, faults, os.environ.get("THP_MEM_ALLOC_ENABLE")]))
"""


def probe(first="", **environment):
    ours = ("RESEARCH_EVAL_ALLOCATOR", "THP_MEM_ALLOC_ENABLE")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-c", PROBE.format(first=first)]
    found = subprocess.run(
        command, env={**clean, **environment}, check=True, capture_output=True, text=True
    )
    return json.loads(found.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is a Linux library")
def test_temporaries_are_not_faulted_in_again():
    said, faults, huge = probe()
    assert said.startswith("allocator: freed memory is kept, huge pages")
    assert faults < 1000  # ten temporaries of 3,906 pages each
    assert huge == "1"


def test_it_can_be_left_alone():
    said, _, huge = probe(RESEARCH_EVAL_ALLOCATOR="default")
    assert said == "allocator: system default (RESEARCH_EVAL_ALLOCATOR=default)"
    assert huge is None


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is a Linux library")
def test_huge_pages_are_not_claimed_once_torch_is_loaded():
    said, _, huge = probe(first="torch")
    assert "huge pages" not in said
    assert huge is None
