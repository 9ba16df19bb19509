"""The temperature of calibrated probabilities: logits are divided by it before the softmax."""

import json
import sys
from pathlib import Path

from common.errors import DataError, UsageError
from common.regular_files import read_regular

NO_TEMPERATURE = 1.0  # leaves the probabilities as the model gives them
KEY = "temperature"  # in the metrics.json of eval.py
NEXT_STEP = "eval.py --temperature fit writes metrics.json with it"
MAX_BYTES = 1 << 24  # of a metrics.json


def is_temperature(value: object) -> bool:
    """Whether `value` is a finite number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def read_temperature(value: str) -> float:
    """Return the temperature that --temperature means: a number, or the one in a metrics.json of eval.py.

    Raises:
        UsageError: a number that is not above 0, or not finite.
        DataError: no such file, or a file that does not hold a temperature.
    """
    if not value:
        return NO_TEMPERATURE
    try:
        number = float(value)
    except ValueError:
        return _read_file(Path(value))
    if not is_temperature(number):
        raise UsageError(f"--temperature: expected a finite number above 0, or a metrics.json, got {value}")
    return number


def _read_file(path: Path) -> float:
    try:
        metrics = json.loads(read_regular(path, MAX_BYTES))
    except FileNotFoundError:
        raise DataError(
            f"--temperature {path}: neither a number above 0 nor an existing metrics.json; {NEXT_STEP}"
        ) from None
    except OSError as error:
        raise DataError(f"--temperature {path}: {error.strerror or error}; {NEXT_STEP}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"--temperature {path}: cannot be read as JSON: {error}; {NEXT_STEP}") from None
    if not isinstance(metrics, dict) or KEY not in metrics:
        raise DataError(f"--temperature {path}: has no entry {KEY!r}; {NEXT_STEP}")
    if not is_temperature(metrics[KEY]):
        raise DataError(f"--temperature {path}: {KEY}: expected a finite number above 0, got {metrics[KEY]!r:.80}")
    return float(metrics[KEY])
