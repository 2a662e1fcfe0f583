"""VGG-16 (Simonyan & Zisserman 2015, configuration D) up to fc7, with torchvision's names for its tensors.

VGG-Face (Parkhi, Vedaldi & Zisserman 2015) is this network with other weights. fc8 is left out: nothing here reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

SIZE = 224
POOLED = 7  # side of pool5: 224 halved five times
CONVS_PER_BLOCK = (2, 2, 3, 3, 3)


@dataclass(frozen=True)
class Widths:
    """Channels of the five blocks of convolutions, and units of fc6 and fc7."""

    blocks: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    fc: int = 4096

    @property
    def layers(self) -> dict[str, int]:
        """Length of the vector that each layer gives; the first is the default."""
        return {"fc7": self.fc, "fc6": self.fc, "pool5": self.blocks[-1] * POOLED**2}


FULL = Widths()
LAYERS = tuple(FULL.layers)


class VGG16(nn.Module):
    """VGG-16 up to fc7, 134,260,544 parameters at full width; its layers are named calls.

    Images are float (n, 3, 224, 224) in the order and scale that the weights expect. fc6 reads pool5 flattened
    channel by channel, as Caffe, Torch7 and torchvision do. Dropout is left out: it is the identity at test time.
    """

    def __init__(self, widths: Widths = FULL) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width, count in zip(widths.blocks, CONVS_PER_BLOCK, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        # torchvision's classifier.2 is dropout: the place is kept so that fc7 is classifier.3 here as well.
        self.classifier = nn.Sequential(
            nn.Linear(before * POOLED**2, widths.fc),
            nn.ReLU(inplace=True),
            nn.Identity(),
            nn.Linear(widths.fc, widths.fc),
            nn.ReLU(inplace=True),
        )

    def pool5(self, images: torch.Tensor) -> torch.Tensor:
        """The last pooling layer, flattened channel by channel: (n, 25088) at full width."""
        return torch.flatten(self.features(images), 1)

    def fc6(self, images: torch.Tensor) -> torch.Tensor:
        """fc6 after ReLU, (n, 4096) at full width, never negative."""
        return self.classifier[:2](self.pool5(images))

    def fc7(self, images: torch.Tensor) -> torch.Tensor:
        """fc7 after ReLU, (n, 4096) at full width, never negative.

        Caffe's blob `fc7` holds the same, because its relu7 works in place.
        """
        return self.classifier(self.pool5(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The same as `fc7`."""
        return self.fc7(images)


def shapes(widths: Widths = FULL) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the network, in order; nothing is allocated."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in VGG16(widths).state_dict().items()}


def caffe_names() -> dict[str, str]:
    """The name that Caffe's definition gives each layer -> ours, in order: conv1_1 -> features.0 ... fc7."""
    places = [name.rpartition(".")[0] for name in shapes() if name.endswith(".weight")]
    convs = [f"conv{block}_{i}" for block, n in enumerate(CONVS_PER_BLOCK, 1) for i in range(1, n + 1)]
    return dict(zip([*convs, "fc6", "fc7"], places, strict=True))
