"""The precision that python -m deploy.serving is asked for reaches the engine, or ends the start with exit code 7."""

import pytest

from common.errors import MissingDependencyError
from deploy import engine_base
from deploy.serving import __main__ as program
from deploy.serving.workers.worker import WorkerSettings, _load

pytestmark = pytest.mark.deploy


@pytest.mark.parametrize(("words", "precision"), [([], "fp32"), (["--precision=bf16"], "bf16")])
def test_the_flag_is_a_setting_of_every_engine_process(exported_onnx, monkeypatch, words, precision):
    server, asked = pytest.importorskip("deploy.serving.server"), []
    monkeypatch.setattr(server, "serve", asked.append)
    program.main([f"a={exported_onnx}", f"b={exported_onnx}", *words])
    assert [model.precision for model in asked[0].models.values()] == [precision, precision]


def test_bf16_without_support_is_an_error_at_the_start(exported_onnx, monkeypatch):
    monkeypatch.setattr(engine_base, "has_bfloat16", lambda: False)
    with pytest.raises(MissingDependencyError, match="no bfloat16"):
        _load(WorkerSettings(str(exported_onnx), precision="bf16"))
    assert _load(WorkerSettings(str(exported_onnx))).card.model == "peleenet"


def test_the_engine_computes_in_the_precision_of_the_settings(exported_onnx, monkeypatch):
    monkeypatch.setattr(engine_base, "has_bfloat16", lambda: True)
    for precision in ("fp32", "bf16"):
        predictor = _load(WorkerSettings(str(exported_onnx), engine="openvino", precision=precision))
        assert ("bfloat16" in predictor.engine.description) == (precision == "bf16")
