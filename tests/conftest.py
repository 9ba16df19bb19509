"""What every process of the tests needs, what they start, and the order of the files."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before Paddle is imported; `make test` takes a process per processor
# Compiling the modules of the project takes 0.5 s in each of the programs that tests start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Files of more than 10 s, the longest first. `make test` gives whole files to its processes in this order: a long one
# that came last would run alone.
LONG = """
faults/test_promises test_readme scripts/test_resume test_tipc test_own_pictures test_models alignment/test_selftest
datasets/loading/test_same_bytes deploy/test_export_script deploy/test_operator_allowlist deploy/test_engines
scripts/test_training_flags scripts/test_chain scripts/test_pretrained mutants/test_mutants deploy/export/test_parity
deploy/test_classifier datasets/loading/test_loader field/test_field field/test_every_program demo/test_own_pictures
scripts/test_wrong_inputs alignment/test_train_full test_layout test_design deploy/serving/test_program
factory/test_cpu_program engine/test_torch_pickle scripts/test_report datasets/test_parallel
"""


def pytest_collection_modifyitems(items) -> None:
    """Put the tests of the long files first."""
    order = {Path(__file__).parent / f"{name}.py": place for place, name in enumerate(LONG.split())}
    missing = [path for path in order if not path.exists()]
    assert not missing, f"tests/conftest.py: LONG names {missing[0]}, which does not exist"
    items.sort(key=lambda item: order.get(item.path, len(order)))
