"""R1, R2: a run that was stopped and resumed gives bit for bit the result of the uninterrupted run."""

import random
import shutil
import tempfile
from itertools import product
from pathlib import Path

from .job import EPOCHS, STEPS, Job, num_different, result, run_forked

VARIANTS = list(product(("adamw", "momentum"), (0, 2), ("inside an epoch", "at its end")))


def r1(cases: int, seed: int) -> dict:
    """Stop inside an epoch and after its last step, with two optimizers, without and with workers."""
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-r1-"))
    uninterrupted, broken, details = {}, 0, []
    for case in range(cases):
        opt, num_workers, where = VARIANTS[case % len(VARIANTS)]
        flags = {"opt": opt, "num_workers": num_workers}
        if opt not in uninterrupted:
            assert run_forked(folder / opt, opt=opt) == 0, f"see {folder}"
            uninterrupted[opt] = result(folder / opt)
        inside = [step for step in range(1, STEPS * EPOCHS) if step % STEPS]
        step = rng.choice(inside) if where == "inside an epoch" else STEPS * rng.randrange(1, EPOCHS)
        out = folder / f"case-{case}"
        stop = {"signal": {"step": step, "name": "SIGTERM"}}
        codes = [run_forked(out, fault=stop, **flags), run_forked(out, **flags)]
        different = num_different(result(out), uninterrupted[opt]) if codes == [75, 0] else -1
        if different:
            broken += 1
            details.append(f"{opt}, {num_workers} workers, step {step}: exit codes {codes}, {different} differ")
        else:
            shutil.rmtree(out)
    return {
        "cases": cases,
        "broken": broken,
        "compared": len(next(iter(uninterrupted.values()))),
        "details": details[:5],
    }


def r2(cases: int, seed: int) -> dict:
    """Stop two ranks under Paddle's launcher by a signal to one of them."""
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-r2-"))
    assert Job(folder / "whole", ranks=2).wait() == 0, f"see {folder}"
    whole, broken, details = result(folder / "whole"), 0, []
    for case in range(cases):
        out, step, rank = folder / f"case-{case}", rng.randrange(1, STEPS * EPOCHS), rng.randrange(2)
        stopped = Job(out, ranks=2, fault={"signal": {"step": step, "name": "SIGTERM", "rank": rank}})
        stopped.wait()
        code, last = stopped.state.get("exit_code"), Job(out, ranks=2).wait()
        different = num_different(result(out), whole) if (code, last) == (75, 0) else -1
        if different:
            broken += 1
            details.append(f"step {step}, rank {rank}: exit codes {code}, {last}, {different} differ; {out}")
    return {"cases": cases, "broken": broken, "compared": len(whole), "details": details[:5]}
