"""Every task in the registry keeps every contract that `opcd-bench check` asks for."""

import functools

import pytest

from opcd_bench import registry
from opcd_bench.checks import FILE_CONTRACTS
from opcd_bench.task_checks import TASK_CONTRACTS

FILES = registry.plugin_files(registry.TASKS_PACKAGE)
STATIC = [contract for contract in FILE_CONTRACTS if "fresh interpreter" not in contract.says]


@functools.cache
def built(name):
    return registry.task(name)


@pytest.mark.parametrize("contract", TASK_CONTRACTS, ids=lambda contract: contract.says)
@pytest.mark.parametrize("name", FILES)
def test_a_task_keeps_its_contract(name, contract):
    contract.test(built(name))


@pytest.mark.parametrize("contract", STATIC, ids=lambda contract: contract.says)
@pytest.mark.parametrize("name", FILES)
def test_a_task_file_keeps_its_contract(name, contract):
    contract.test(FILES[name])
