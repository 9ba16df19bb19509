"""Record the calls of functions of PyTorch in the code of a model between two layers."""

import torch
from torch.overrides import TorchFunctionMode

from alignment import adapter
from alignment.adapter import tensors_of
from alignment.layers.operations import Operation
from alignment.trace import Trace, call_place, is_in

from . import draws, float32_constants, references
from .recorder import is_framework_file
from .units import as_array

OWN_FILES = {__file__, draws.__file__, float32_constants.__file__}  # functions in them stand for those of PyTorch
PACKING_FILES = (adapter.__file__, references.__file__)  # they make one tensor of several outputs
# The recorder calls them, too.
SAME_VALUE = ("detach", "resolve_conj", "resolve_neg", "requires_grad_", "register_hook")


class OperationLog(TorchFunctionMode):
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
        self._results: list[torch.Tensor] = []  # kept, so that no id is used again

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        given = [self._numbers.get(id(one)) for _, one in tensors_of([arguments, keywords or {}], torch.is_tensor)]
        result = function(*arguments, **(keywords or {}))
        name = getattr(function, "__name__", str(function))
        if name not in SAME_VALUE and self._trace.is_between(*self._window):
            name = function.__self__.__name__ if name == "__get__" else name.strip("_")
            place = call_place(lambda path: path in OWN_FILES or is_framework_file(path))
            if is_in(place, PACKING_FILES):
                return result
            inputs = tuple(number for number in given if number is not None)
            for _, tensor in tensors_of(result, torch.is_tensor):
                if tensor.numel():
                    self._numbers[id(tensor)] = len(self.operations)
                    self._results.append(tensor)
                    node = len(self._trace.nodes)
                    self.operations.append(Operation.of_result(name, place, as_array(tensor), node, inputs))
        return result
