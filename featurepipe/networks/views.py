"""Test-time views of faces that several networks share."""

from __future__ import annotations

import torch


def face_itself(faces: torch.Tensor) -> torch.Tensor:
    """No normalisation: the face as it is, in 0..1."""
    return faces


def standardise(images: torch.Tensor) -> torch.Tensor:
    """Each image of (n, 1, h, w) to zero mean and unit deviation: exposure and contrast of the photo drop out."""
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / (deviation + 1e-3)


def one_view(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    """For systems that describe no test-time views: every count means the face itself."""
    return [faces]


def mirrored(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The face and, for 2 or 10 views, its mirror: for systems that see the whole crop."""
    return [faces] if count == 1 else [faces, faces.flip(-1)]


def standardised_and_mirrored(faces: torch.Tensor, count: int) -> list[torch.Tensor]:
    """The same of standardised faces; of sequences, whose frames are channels, as a whole: they stay comparable."""
    return mirrored(standardise(faces), count)


def cut_views(faces: torch.Tensor, view: int, count: int) -> list[torch.Tensor]:
    """Squares cut out of faces: 1 the centre, 2 with its mirror, 10 centre and corners with their mirrors.

    Parameters
    ----------
    faces : float (n, c, s, s)
    view : side of the squares, at most s
    count : 1, 2 or 10

    Returns
    -------
    `count` tensors (n, c, view, view): the plain ones first, then their mirrors in the same order
    """
    edge = faces.shape[-1] - view
    corners = [(edge // 2, edge // 2), (0, 0), (0, edge), (edge, 0), (edge, edge)]
    cut = [faces[..., y : y + view, x : x + view] for y, x in corners[: 1 if count < 10 else 5]]
    return cut if count == 1 else cut + [square.flip(-1) for square in cut]
