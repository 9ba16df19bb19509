"""Record the calls of functions of Paddle in the code of a model between two layers."""

from collections.abc import Callable
from contextlib import ExitStack

import paddle

from .. import adapter
from ..adapter import tensors_of
from ..layers.operations import Operation
from ..replacing import functions_replaced
from ..trace import Trace, call_place, is_in
from . import draws, port
from .recorder import is_framework_file

OWN_FILES = {__file__, draws.__file__}  # functions in them stand for those of Paddle
PACKING_FILES = (adapter.__file__, port.__file__)  # they make one tensor of several outputs
# Operators of tensors that Paddle computes without a Python function of paddle._C_ops.
OPERATORS = ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod", "pow", "rpow",
             "matmul", "neg", "getitem")  # fmt: skip


class OperationLog(ExitStack):
    """A context that keeps the operations after the call of one node of a trace and before that of a later one.

    Args:
        trace: that is being recorded.
        window: numbers of the two nodes; -1 is the beginning, and the number of nodes the end.
    """

    def __init__(self, trace: Trace, window: tuple[int, int]):
        super().__init__()
        self._trace, self._window = trace, window
        self.operations: list[Operation] = []
        self._numbers: dict[int, int] = {}  # of the operation, by the id of its result
        self._results: list[paddle.Tensor] = []  # kept, so that no id is used again

    def __enter__(self) -> "OperationLog":
        super().__enter__()
        functions = {
            name: self._noted(name, function)
            for name, function in vars(paddle._C_ops).items()
            if callable(function) and not name.startswith("_")
        }
        self.enter_context(functions_replaced(paddle._C_ops, functions))
        names = [f"__{name}__" for name in OPERATORS]
        methods = {name: self._noted(name.strip("_"), getattr(paddle.Tensor, name)) for name in names}
        self.enter_context(functions_replaced(paddle.Tensor, methods))
        return self

    def _noted(self, name: str, function: Callable) -> Callable:
        def call(*arguments, **keywords):
            given = [self._numbers.get(id(one)) for _, one in tensors_of([arguments, keywords], paddle.is_tensor)]
            result = function(*arguments, **keywords)
            if self._trace.is_between(*self._window):
                place = call_place(lambda path: path in OWN_FILES or is_framework_file(path))
                if is_in(place, PACKING_FILES):
                    return result
                inputs = tuple(number for number in given if number is not None)
                for _, tensor in tensors_of(result, paddle.is_tensor):
                    if tensor.size:
                        self._numbers[id(tensor)] = len(self.operations)
                        self._results.append(tensor)
                        node = len(self._trace.nodes)
                        self.operations.append(Operation.of_result(name, place, tensor.numpy(), node, inputs))
            return result

        return call
