"""Holds the memory of batches to being used again, and never while somebody can see it."""

import numpy as np
import paddle

from datasets.loading.buffers import BufferPool


def test_is_taken_again_when_the_tensor_and_all_that_share_it_are_gone():
    memory = BufferPool((4, 3))
    tensor = paddle.from_dlpack(memory.take(4))
    place = tensor.data_ptr()
    held = [tensor[1:], tensor.detach(), tensor.reshape([3, 4])]
    del tensor
    while held:
        assert paddle.from_dlpack(memory.take(4)).data_ptr() != place
        held.pop()
    taken = [memory.take(2) for _ in range(3)]
    assert place in [array.ctypes.data for array in taken]


def test_batches_that_are_kept_are_not_overwritten():
    memory = BufferPool((4, 3))
    kept = []
    for i in range(6):
        array = memory.take(4 - i % 2)
        array[:] = i
        kept.append(paddle.from_dlpack(array))
    del array
    assert [tensor.numpy().tolist() for tensor in kept] == [np.full((4 - i % 2, 3), i).tolist() for i in range(6)]
    kept.clear()
    assert len(memory._idle) == 2
