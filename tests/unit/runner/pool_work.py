"""What the workers of test_pool.py do."""

import os

from opcd_bench.runner.cluster.jobs import Outcome


def load(suite):
    """Nothing to load."""


def do(job, held):
    """Say which GPUs this worker sees."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    return Outcome(job.name, None, notes=(str(os.getpid()), gpus))
