"""Buffers of batches: used again as soon as possible, and never while anything refers to the batch in them."""

import numpy as np
import paddle

from datasets.loading.loader import BufferPool


def test_a_buffer_is_free_when_the_tensor_and_all_that_share_it_are_deleted():
    pool = BufferPool((4, 3))
    tensor = paddle.from_dlpack(pool.take(4))
    address = tensor.data_ptr()
    held = [tensor[1:], tensor.detach(), tensor.reshape([3, 4])]
    del tensor
    while held:
        assert paddle.from_dlpack(pool.take(4)).data_ptr() != address
        held.pop()
    taken = [pool.take(2) for _ in range(3)]
    assert address in [array.ctypes.data for array in taken]


def test_batches_that_are_kept_are_not_overwritten():
    pool = BufferPool((4, 3))
    kept = []
    for i in range(6):
        array = pool.take(4 - i % 2)
        array[:] = i
        kept.append(paddle.from_dlpack(array))
    del array
    assert [tensor.numpy().tolist() for tensor in kept] == [np.full((4 - i % 2, 3), i).tolist() for i in range(6)]
    kept.clear()
    assert len(pool._idle) == 2
