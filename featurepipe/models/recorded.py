"""The same GPU work for every batch, recorded once as a CUDA graph and then replayed.

A training step of a small network is hundreds of kernels of a few microseconds each. A CPU that launches them one by
one takes several times as long as the GPU that runs them; a recorded step is launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

Compute = Callable[[torch.Tensor], torch.Tensor]

WARM_CALLS = 3
"""Calls that run as they are before one is recorded: libraries allocate and try their algorithms in the first ones."""


class Recorded:
    """Computes what `compute` does; from the fourth call on, a GPU repeats what it was told once.

    Everything that `compute` reads and writes besides its argument must stay at its place in memory, and it must
    neither wait for the GPU nor copy from the CPU. What it draws at random is what it would have drawn unrecorded.

    Parameters
    ----------
    compute : from a tensor on the GPU, of one shape and dtype in all calls, to another
    generator : the GPU's generator that `compute` draws from, beside torch's own
    """

    def __init__(self, compute: Compute, generator: torch.Generator) -> None:
        self._compute, self._generator = compute, generator
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, argument: torch.Tensor) -> torch.Tensor:
        """The result for `argument`; the next call may overwrite it."""
        self._calls += 1
        if self._calls <= WARM_CALLS:
            return self._compute(argument)
        if self._graph is None:
            self._graph = self._record(argument)
        self._argument.copy_(argument)
        with torch.cuda.device(argument.device):
            self._graph.replay()
        return self._result

    def _record(self, argument: torch.Tensor) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        self._argument = argument.clone()
        with torch.cuda.device(argument.device), torch.cuda.graph(graph, stream=_stream_of(argument.device)):
            self._result = self._compute(self._argument)
        return graph


@cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """Where the work of a GPU is recorded; torch's own choice is one stream for all, of the GPU that came first."""
    return torch.cuda.Stream(device)
