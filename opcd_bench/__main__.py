"""`python -m opcd_bench`: the command line, where `opcd-bench` is not on the path."""

from opcd_bench.cli.main import entry

if __name__ == "__main__":
    entry()
