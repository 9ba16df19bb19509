"""--temperature: a number, or the metrics.json of eval.py; everything else is an error that names the next step."""

import json
import os

import pytest

from common.errors import DataError, UsageError
from deploy.temperature import MAX_BYTES, read_temperature


@pytest.mark.parametrize(("text", "value"), [("", 1.0), ("1", 1.0), ("2.5", 2.5), ("1e-3", 0.001)])
def test_a_number(text, value):
    assert read_temperature(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_no_temperature(text):
    with pytest.raises(UsageError, match=rf"--temperature: expected a finite number above 0, .* got {text}"):
        read_temperature(text)


@pytest.mark.parametrize("value", [1.75, 2])
def test_a_metrics_file(tmp_path, value):
    (tmp_path / "metrics.json").write_text(json.dumps({"top1_percent": 70.5, "temperature": value}))
    assert read_temperature(str(tmp_path / "metrics.json")) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "has no entry 'temperature'; eval.py --temperature fit writes"),
        ("[1.5]", "has no entry 'temperature'"),
        ('"temperature"', "has no entry 'temperature'"),
        ('{"temperature": 0}', "temperature: expected a finite number above 0, got 0"),
        ('{"temperature": NaN}', "temperature: expected a finite number above 0, got nan"),
        ('{"temperature": "1.5"}', "temperature: expected a finite number above 0, got '1.5'"),
        ('{"temperature": true}', "temperature: expected a finite number above 0, got True"),
        (f'{{"temperature": 1{"0" * 400}}}', "temperature: expected a finite number above 0, got 1000"),
        (" " * (MAX_BYTES + 1), "at most 16,777,216 are read"),
        ('{"temperature": null}', "temperature: expected a finite number above 0, got None"),
        ("{", "cannot be read as JSON"),
        ("\xff", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_wrong_metrics_file(tmp_path, content, message):
    path = tmp_path / "metrics.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DataError) as error:
        read_temperature(str(path))
    assert message in str(error.value) and f"--temperature {path}: " in str(error.value)


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"1,5: neither a number above 0 nor an existing metrics.json; eval.py"):
        read_temperature("1,5")
    with pytest.raises(DataError, match=r"Is a directory; eval.py"):
        read_temperature(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"is a named pipe, not a regular file; eval.py"):
        read_temperature(str(tmp_path / "pipe"))
