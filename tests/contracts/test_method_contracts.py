"""Every method in the registry keeps every contract that `opcd-bench check` asks for."""

import pytest

from opcd_bench.runner import registry
from opcd_bench.runner.contracts.checks import FILE_CONTRACTS
from opcd_bench.runner.contracts.method_checks import METHOD_CONTRACTS

FILES = registry.plugin_files(registry.METHODS_PACKAGE)
# test_layers.py imports every plugin in one fresh interpreter; here that would be one for each
STATIC = [contract for contract in FILE_CONTRACTS if "fresh interpreter" not in contract.says]


@pytest.mark.parametrize("contract", METHOD_CONTRACTS, ids=lambda contract: contract.says)
@pytest.mark.parametrize("name", FILES)
def test_a_method_keeps_its_contract(name, contract):
    contract.test(registry.method(name))


@pytest.mark.parametrize("contract", STATIC, ids=lambda contract: contract.says)
@pytest.mark.parametrize("name", FILES)
def test_a_method_file_keeps_its_contract(name, contract):
    contract.test(FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_a_method_fits_on_a_screen(name):
    assert len(FILES[name].read_text().splitlines()) <= 20
