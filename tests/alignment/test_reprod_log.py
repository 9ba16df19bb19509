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


def test_recorded_arrays_of_numpy_are_compared(tmp_path):
    """`fake_data.npy` of the tutorial is a plain array, and a loss may be [1] on one side and [] on the other."""
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "fake_data.npy", data)
    np.savez(tmp_path / "arrays.npz", logits=data, loss=np.array([1.5]))
    write_dictionary(tmp_path / "ref.npy", {"logits": data, "loss": np.array(1.5)})
    write_dictionary(tmp_path / "one.npy", {"input": data})
    assert main([str(tmp_path / "arrays.npz"), str(tmp_path / "ref.npy")]) == 0
    assert main([str(tmp_path / "fake_data.npy"), str(tmp_path / "one.npy")]) == 0
    assert main([str(tmp_path / "fake_data.npy"), str(tmp_path / "ref.npy")]) == 6
    [check] = compare_dictionaries({"loss": np.array([1.5])}, {"loss": np.array(1.6)}, 1e-6)
    assert check.status == "fail" and check.detail == "shape [1] against []"
    [check] = compare_dictionaries({"loss": np.zeros((2, 3))}, {"loss": np.zeros((3, 2))}, 1e-6)
    assert check.status == "fail"


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", a=np.array([RunsCode()]))
    for name in ("text.npz", "objects.npy", "objects.npz", "absent.npy"):
        with pytest.raises(WeightsError, match=name):
            reprod_log.read_recorded(tmp_path / name)
