"""Files of reprod_log are read without running code from them, and compared strictly."""

import os

import numpy as np
import pytest

import alignment.reprod
from alignment.compat import reprod_log
from alignment.compat.reprod_log import compare_dictionaries, main, read_dictionary, write_dictionary
from common.errors import WeightsError


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran_code",)


def test_files_are_read_and_compared(tmp_path):
    port = {"logits": np.arange(6, dtype=np.float32).reshape(2, 3), "loss": np.array(1.5)}
    write_dictionary(tmp_path / "a.npy", port)
    back = read_dictionary(tmp_path / "a.npy")
    assert all(np.array_equal(back[key], port[key]) and back[key].dtype == port[key].dtype for key in port)
    write_dictionary(tmp_path / "b.npy", {"logits": port["logits"] * 1.001})
    checks = compare_dictionaries(back, read_dictionary(tmp_path / "b.npy"), 1e-5)
    assert [check.status for check in checks] == ["fail"] * 2
    assert main([str(tmp_path / "a.npy"), str(tmp_path / "a.npy")]) == 0
    assert main([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]) == 6


def test_another_type_is_a_difference():
    arrays = {"logits": np.arange(3.0)}
    [check] = compare_dictionaries(arrays, {"logits": arrays["logits"].astype(np.float32)}, 1e-5)
    assert (check.status, check.detail) == ("fail", "float64 against float32")


def test_a_crafted_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("evil.npy", {"logits": RunsCode()})
    np.save("plain.npy", np.zeros(3))
    (tmp_path / "text.npy").write_text("no")
    (tmp_path / "open.npy").write_bytes((tmp_path / "plain.npy").read_bytes().replace(b"}", b" "))
    for name in ("evil.npy", "plain.npy", "text.npy", "absent.npy", "open.npy"):
        with pytest.raises(WeightsError):
            read_dictionary(name)
    assert not (tmp_path / "ran_code").exists()


def test_the_former_import_path_is_kept():
    for name in ("read_dictionary", "write_dictionary", "compare_dictionaries"):
        assert getattr(alignment.reprod, name) is getattr(reprod_log, name)
