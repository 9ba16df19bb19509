"""R16: time for which saving a checkpoint of PeleeNet stops the training."""

import tempfile
import time
from pathlib import Path


def r16(cases: int, seed: int) -> dict:
    """Save PeleeNet with EMA and AdamW once per second while the main thread computes; measure the blocked time."""
    import paddle

    from configs.schema import OptimConfig, OutputConfig
    from engine.checkpoint import write_checkpoint
    from engine.ema import Ema
    from engine.optim import create_optimizer
    from engine.saver import Saver
    from engine.state import TrainState
    from models import create_model

    model = create_model("peleenet", num_classes=1000)
    state = TrainState(model, create_optimizer(model, OptimConfig(opt="adamw"), lr=1e-3), ema=Ema(model, 0.999))
    images = paddle.randn([4, 3, 64, 64])
    model(images).mean().backward()
    state.optimizer.step()
    folder, blocked = Path(tempfile.mkdtemp(prefix="faults-r16-")), []
    start = time.perf_counter()
    write_checkpoint(folder / "c.pd", *state.snapshot())
    foreground = time.perf_counter() - start
    size = (folder / "c.pd").stat().st_size
    saver = Saver(state, OutputConfig(output_dir=str(folder)))
    for _ in range(cases):
        start = time.perf_counter()
        saver.save("checkpoint-latest.pd")
        blocked.append(time.perf_counter() - start)
        while time.perf_counter() < start + 1:
            with paddle.no_grad():
                model(images)
    saver.finish()
    worst = max(blocked)
    return {
        "cases": cases,
        "broken": int(worst > 0.05 * 60),
        "megabytes": round(size / 1e6, 1),
        "seconds_written_in_the_foreground": round(foreground, 3),
        "seconds_blocked_median": round(sorted(blocked)[cases // 2], 3),
        "seconds_blocked_worst": round(worst, 3),
        "percent_of_training_at_one_save_a_minute": round(100 * sum(blocked) / cases / 60, 3),
    }
