"""Every task in the registry keeps every contract that `opcd-bench check` asks for."""

import pytest
from small_data import write_all

from opcd_bench.envs import data_sets
from opcd_bench.errors import MissingData
from opcd_bench.runner import registry
from opcd_bench.runner.contracts.checks import FILE_CONTRACTS
from opcd_bench.runner.contracts.task_checks import TASK_CONTRACTS

FILES = registry.plugin_files(registry.TASKS_PACKAGE)
STATIC = [contract for contract in FILE_CONTRACTS if "fresh interpreter" not in contract.says]


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Small data sets in the published ones' schemas."""
    return str(write_all(tmp_path_factory.mktemp("data")))


@pytest.fixture
def built(name, data_dir):
    """A task with its data; a contributed one whose data tests do not write is skipped."""
    task = registry.task(name, data_dir=data_dir)
    with data_sets.local_only():
        try:
            task.examples("train")
        except MissingData as error:
            pytest.skip(f"{name}: its data set is not among tests/small_data.py: {error}")
        yield task


@pytest.mark.parametrize("contract", TASK_CONTRACTS, ids=lambda contract: contract.says)
@pytest.mark.parametrize("name", FILES)
def test_a_task_keeps_its_contract(built, contract):
    contract.test(built)


@pytest.mark.parametrize("contract", STATIC, ids=lambda contract: contract.says)
@pytest.mark.parametrize("name", FILES)
def test_a_task_file_keeps_its_contract(name, contract):
    contract.test(FILES[name])
