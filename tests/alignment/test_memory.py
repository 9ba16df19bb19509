"""The memory of recorded models is given back where much is held, and not where much was held before."""

import numpy as np

from alignment import memory


def test_a_process_collects_while_it_holds_much(monkeypatch):
    calls = []
    monkeypatch.setattr(memory.gc, "collect", lambda: calls.append("collected"))
    monkeypatch.setattr(memory, "LARGE", memory._held_kilobytes() + 200_000)
    memory.free_recorded_models()
    assert calls == []
    array = np.ones(300_000_000, np.uint8)
    memory.free_recorded_models()
    assert calls == ["collected"]
    del array
    memory.free_recorded_models()
    assert calls == ["collected"]
