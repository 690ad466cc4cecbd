"""A call captured on an NVIDIA card, and replayed without Python launching its kernels one by one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Calls before the capture, in which libraries choose their kernels and take their workspaces.
WARM_UP = 3


class Graph:
    """A CUDA graph of one call (CUDA C++ Programming Guide, CUDA Graphs).

    It reads its input and writes its output at fixed places: every call has the shapes of the first, and the output is
    copied.
    """

    def __init__(self, call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        """Capture the call with copies of its inputs. Its modules must stay where they are on the card."""
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._inputs[0].device):
            self._warm_up(call)
            # The pictures' threads touch no card, but a thread of a library may.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = call(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._output.clone()

    def _warm_up(self, call: Callable[..., Tensor]) -> None:
        """On another stream than the default one, as a capture is."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                call(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
