"""`auto_diff` has the options of PaDiff, and is imported by its former path too."""

import numpy as np
import pytest

import alignment.auto_diff
from alignment.compat.padiff import auto_diff
from alignment.selftest.toy_models import Ladder
from common.errors import CaseError


def test_an_unknown_phase_is_refused():
    with pytest.raises(CaseError, match="forward, backward, both, got 'front'"):
        auto_diff(Ladder, "", np.zeros((1, 3, 32, 32)), diff_phase="front")


def test_the_former_import_path_is_kept():
    assert alignment.auto_diff.auto_diff is auto_diff


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_auto_diff_has_the_options_of_padiff(torch_side):
    images = np.random.default_rng(0).uniform(-2, 2, (4, 3, 32, 32)).astype("float32")
    reference = f"{torch_side / 'toy_models.py'}:Ladder"

    def wrong():
        model = Ladder()
        model.norm1._epsilon = 1e-3
        return model

    assert auto_diff(Ladder, reference, images, steps=3, print_report=False)
    assert not auto_diff(wrong, reference, images, single_step=True, auto_init=False, print_report=False)
    assert auto_diff(wrong, reference, images, diff_phase="forward", atol=10.0, print_report=False)
