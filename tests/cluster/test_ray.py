"""A suite on a Ray cluster of two one-CPU nodes, one of whose workers is killed."""

import os
import signal
from pathlib import Path

import pytest
from command_line import over
from suites import WORDS, rows
from test_slurm import begun, run

ray = pytest.importorskip("ray", reason="make test-cluster installs it")
pytestmark = pytest.mark.cluster

LONG = over(WORDS, "--max-steps", "12")
ON_RAY = ["--cluster", "ray", "--cluster-set", "cpus=1"]


@pytest.fixture(scope="module")
def cluster():
    """The address of two nodes of one CPU each; no process of theirs stays."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


def test_a_suite_on_ray_goes_on_when_a_worker_is_killed(cluster, tiny_model_folder, tmp_path):
    model = ["--model", str(tiny_model_folder)]
    one = tmp_path / "one"
    one.mkdir()
    run([*LONG, *model], one)
    two = tmp_path / "two"
    two.mkdir()
    words = [*LONG, *ON_RAY, *model, "--cluster-set", f"address={cluster}"]
    process = begun(words, two, {})
    for worker in busy():
        os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "its worker was lost" in err and "given out again" in err
    assert rows(two) == rows(one)


def busy():
    """The processes that Ray runs our tasks in."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = file.read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if name.startswith(b"ray::elsewhere"):
            found.append(int(file.parent.name))
    return found


def test_without_a_cluster_one_line_says_what_to_type(tmp_path, tiny_model_folder):
    words = [*WORDS, "--model", str(tiny_model_folder), "--cluster", "ray"]
    told = run([*words, "--cluster-set", "address=127.0.0.1:1"], tmp_path, code=2)
    assert "no Ray cluster at 127.0.0.1:1" in told.stderr and "ray start --head" in told.stderr
    assert "Traceback" not in told.stderr
