"""The training of the reference: the loader of the port reads the batches, PyTorch trains on them, part by part."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from common.errors import CheckpointError
from common.files import atomic_write, disk_errors
from engine.progress.meters import Meter

from ..exchange import read_arrays
from ..reference import File, Reference
from ..rules import Arrays
from .paddle_run import Trained
from .settings import FullTraining

OWN = ("losses", "top1_percent", "seconds", "settings")  # arrays of the file that the reference does not need


class TorchRun:
    """A training whose whole state is one file, which is replaced after every part: it continues where it was stopped.

    Args:
        recipe: the training.
        seed: of order and augmentation of the images, and of the dropout.
        reference: the process with PyTorch.
        spec: how the reference is built.
        folder: where the file is.
    """

    def __init__(self, recipe: FullTraining, seed: int, reference: Reference, spec: dict, folder: Path):
        self._recipe, self._seed, self._reference, self._spec = recipe, seed, reference, spec
        self._file = folder / "state.npz"
        folder.mkdir(parents=True, exist_ok=True)
        self._loader = recipe.train_loader(seed)
        self._rates = recipe.rates(self._loader.steps_per_epoch)
        self.state: Arrays = {}

    def start(self, weights: Arrays) -> None:
        """Read the file of an earlier start, or begin with `weights`, {name in the reference: array}.

        Raises:
            CheckpointError: the file is of another training, or damaged.
        """
        settings = np.frombuffer(bytes.fromhex(self._recipe.fingerprint(self._seed, weights)), np.uint8)
        if not self._file.exists():
            self.state = {f"weight/{name}": array for name, array in weights.items()}
            self.state |= {"losses": np.zeros(0), "top1_percent": np.zeros(0), "seconds": np.zeros(())}
            self.state["settings"] = settings
            return
        try:
            self.state = read_arrays(self._file)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{self._file} cannot be read ({error}); remove it to train again") from None
        if not np.array_equal(self.state.get("settings"), settings):
            raise CheckpointError(
                f"{self._file} is of a training with other settings or weights; give another --output_dir, or remove it"
            )

    def train(self, report: Callable[[str], None]) -> Trained:
        """Train to the end; `report` gets a line after each epoch."""
        per_epoch = self._loader.steps_per_epoch
        for epoch in range(len(self.state["top1_percent"]), self._recipe.num_epochs):
            self._train_epoch(epoch, len(self.state["losses"]) - epoch * per_epoch)
            top1 = self._evaluate()
            self._save({"top1_percent": np.append(self.state["top1_percent"], top1)})
            loss = self.state["losses"][-per_epoch:].mean()
            report(f"  PyTorch, seed {self._seed}, epoch {epoch}: loss {loss:.4f}, top-1 {top1:.2f} %")
        losses, seconds = self.state["losses"], float(self.state["seconds"])
        means = [(step, _recent_mean(losses, step, per_epoch)) for step in range(len(losses))]
        return Trained(self._seed, self.state["top1_percent"].tolist(), means, float(losses[0]), round(seconds))

    def _train_epoch(self, epoch: int, first_step: int) -> None:
        """The remaining steps of an epoch; the next part is read while the reference trains on one."""
        finish = None
        done = epoch * self._loader.steps_per_epoch + first_step
        for images, labels in self._parts(self._loader.batches(epoch, first_step)):
            inputs = self._reference.put({"images": np.stack(images), "labels": np.stack(labels)})
            if finish:
                finish()
            finish = self._begin(inputs, done, len(images))
            done += len(images)
        if finish:
            finish()

    def _parts(self, batches: Iterable) -> Iterator[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]:
        """(images, labels) of as many batches as are sent to the reference at once."""
        rest = iter(batches)
        while part := list(islice(rest, self._recipe.steps_of_parts())):
            yield tuple(np.array(batch.images.numpy()) for batch in part), tuple(batch.labels.numpy() for batch in part)

    def _begin(self, inputs: File, step: int, num_steps: int) -> Callable[[], None]:
        """Let the reference train on a part; the returned function waits for it and saves the state."""
        started, state = time.perf_counter(), self._reference_state()
        wait = self._reference.begin(
            "train_part", reference=self._spec, state=state, inputs=inputs, rates=self._rates[step : step + num_steps],
            optimizer=self._recipe.optimizer(), smoothing=self._recipe.common_config.mix.smoothing,
            seed=self._recipe.seed_of_dropout(self._seed, step),
        )  # fmt: skip

        def finish() -> None:
            _, arrays = wait()
            for file in (inputs, state):
                file.path.unlink()
            losses = np.append(self.state["losses"], arrays.pop("losses"))
            seconds = self.state["seconds"] + time.perf_counter() - started
            self._save(arrays | {"losses": losses, "seconds": seconds})

        return finish

    def _evaluate(self) -> float:
        """Accuracy of the reference on the validation images, in percent."""
        started, state, correct, count = time.perf_counter(), self._reference_state(), 0, 0
        for images, labels in self._parts(self._recipe.eval_loader().batches()):
            arrays = {"images": np.concatenate(images), "labels": np.concatenate(labels)}
            inputs = self._reference.put(arrays)
            answer = self._reference.do("count_correct", reference=self._spec, state=state, inputs=inputs)
            inputs.path.unlink()
            correct, count = correct + answer["correct"], count + len(arrays["labels"])
        state.path.unlink()
        self.state["seconds"] = self.state["seconds"] + time.perf_counter() - started
        return 100 * correct / count

    def _reference_state(self) -> File:
        return self._reference.put({name: array for name, array in self.state.items() if name not in OWN})

    def _save(self, arrays: Arrays) -> None:
        self.state |= arrays
        with disk_errors(self._file), atomic_write(self._file) as file:
            np.savez(file, **self.state)


def _recent_mean(losses: np.ndarray, step: int, per_epoch: int) -> float:
    """Mean of the last Meter.WINDOW losses of the epoch up to `step`, as metrics.jsonl has it."""
    begin = max(step - step % per_epoch, step - Meter.WINDOW + 1)
    return float(losses[begin : step + 1].mean())
