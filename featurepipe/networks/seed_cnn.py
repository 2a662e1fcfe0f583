"""seed_cnn: the small network of Naqvi et al. 2023 (6c-2s-12c-2s), 48,440 parameters for eight classes.

Layer widths are the paper's; what it leaves out (kernels, activations, loss, initialisation) follows the MATLAB
DeepLearnToolbox example it matches: 5x5 valid convolutions, sigmoids, 2x2 mean pooling, a sigmoid output.
"""

from __future__ import annotations

import math

import torch
from torch import nn

CROP = 100


class SeedCNN(nn.Module):
    """From grey faces (n, 1, 100, 100) in 0..1 to one score per class, before the output's sigmoid.

    Written with 2 tanh(z / 2) = 4 (sigmoid(z) - 1/2) and grey values 4 (x - 1/2). Scales and offsets are absorbed by
    the weights and biases that follow, so these are exactly the functions that the toolbox's network can compute.
    Its own form, with sigmoids near 1/2 everywhere, does not leave the constant prediction on small sets of faces:
    after its first layers the pictures of a set differ by 0.3 % of their common value.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c2 = nn.Conv2d(6, 12, 5)
        self.output = nn.Linear(12 * 22 * 22, classes)
        for layer in (self.c1, self.c2, self.output):
            _initialise(layer)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Scores (n, classes); the network's own outputs are their sigmoids."""
        s1 = nn.functional.avg_pool2d(_activation(self.c1(4 * (faces - 0.5))), 2)
        s2 = nn.functional.avg_pool2d(_activation(self.c2(s1)), 2)
        return self.output(torch.flatten(s2, 1))


def _activation(values: torch.Tensor) -> torch.Tensor:
    return 2 * torch.tanh(values / 2)


def _initialise(layer: nn.Conv2d | nn.Linear) -> None:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), biases 0: the toolbox's rule, for the weights in this form of it."""
    area = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
    bound = math.sqrt(6 / ((layer.weight.shape[0] + layer.weight.shape[1]) * area))
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
