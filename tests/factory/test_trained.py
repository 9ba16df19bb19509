"""A model from a file of weights: what cannot work is refused before a network is built."""

import paddle
import pytest

from common.errors import ModelError
from configs.schema import TrainedModelConfig, TrainedPreprocessConfig, WeightsConfig
from factory.trained import read_trained


def test_a_side_that_the_model_cannot_take_is_refused(tmp_path):
    path = tmp_path / "weights.pdparams"
    paddle.save({"classifier.bias": paddle.zeros([4])}, str(path))
    model, weights = TrainedModelConfig(name="peleenet"), WeightsConfig(resume=str(path))
    assert read_trained(model, weights, TrainedPreprocessConfig(input_size=64)).classes.number == 4
    with pytest.raises(ModelError, match="33"):
        read_trained(model, weights, TrainedPreprocessConfig(input_size=33))
