"""A convolution that is trained as several branches and shipped as one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.nets.base import conv3x3

EDGES = (
    ((1, 0, -1), (2, 0, -2), (1, 0, -1)),  # Sobel, across
    ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),  # Sobel, down
    ((0, 1, 0), (1, -4, 1), (0, 1, 0)),  # Laplacian
)
EXPANSION = 2


class ReparameterisedConv(nn.Module):
    """A 3x3 convolution that keeps the size, trained as a sum of branches: the edge-oriented block of ECBSR.

    Branches: a 3x3 convolution; a 1x1 that expands, then a 3x3 that squeezes; for each of two Sobel masks and
    the Laplacian a 1x1, then the mask with a factor of its own for every channel; and the input itself, where
    it has as many channels as the output.

    Nothing between the branches is curved, so their sum is one 3x3 convolution at every moment, of which
    :meth:`kernel` gives the weights. The forward pass builds it and runs it alone, as Hu et al., "Online
    convolutional re-parameterization", CVPR 2022, do: the richer form costs a training hardly more than the
    plain one, and :meth:`collapse` changes nothing. At the image's border this is the sum of branches whose
    input is padded with zeros *before* their 1x1 convolution, so that the 3x3 sees the bias there, as in
    ECBSR; padded in between, the border would be another one.

    Source: Zhang et al., "Edge-oriented convolution block for real-time super resolution on mobile devices"
    (ECBSR), ACM Multimedia 2021, equations 2 to 7; the idea is Ding et al., "RepVGG", CVPR 2021. The masks'
    branches have no bias in between, which masks that sum to zero would cancel. All branches but the plain
    one start small.

    Args:
        channels, out_channels: of the convolution.
    """

    masks: Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        middle = EXPANSION * out_channels
        self.plain = conv3x3(channels, out_channels)
        self.expand = nn.Conv2d(channels, middle, 1)
        self.squeeze = nn.Conv2d(middle, out_channels, 3, bias=False)
        self.edges = nn.Parameter(torch.empty(len(EDGES), out_channels, channels))
        self.edge_factors = nn.Parameter(torch.empty(len(EDGES), out_channels))
        self.keeps_channels = channels == out_channels
        with torch.no_grad():
            self.squeeze.weight.mul_(0.1)
            nn.init.normal_(self.edges, std=channels**-0.5)
            nn.init.normal_(self.edge_factors, std=0.02)
        self.register_buffer("masks", torch.tensor(EDGES, dtype=torch.float32), persistent=False)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weights (out, in, 3, 3) and bias (out,) of the one convolution, with gradients to all branches."""
        squeeze = self.squeeze.weight
        weight = self.plain.weight + torch.einsum("omhw,mi->oihw", squeeze, self.expand.weight[..., 0, 0])
        weight = weight + torch.einsum("eo,eoi,ehw->oihw", self.edge_factors, self.edges, self.masks)
        if self.keeps_channels:
            # 1 in the middle of a channel's own mask
            weight = weight + F.pad(torch.eye(len(weight)).to(weight)[..., None, None], (1, 1, 1, 1))
        assert self.plain.bias is not None
        assert self.expand.bias is not None
        return weight, self.plain.bias + torch.einsum("omhw,m->o", squeeze, self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        weight, bias = self.kernel()
        return F.conv2d(x, weight, bias, padding=1)

    @torch.no_grad()
    def collapse(self) -> nn.Conv2d:
        """The one convolution that this is equal to, with weights of its own."""
        weight, bias = self.kernel()
        # no random weights, which nobody would see
        single = nn.utils.skip_init(nn.Conv2d, weight.shape[1], weight.shape[0], 3, padding=1).to(weight)
        single.weight.copy_(weight)
        assert single.bias is not None
        single.bias.copy_(bias)
        return single


def collapsed_state(net: nn.Module) -> dict[str, Tensor]:
    """The state dict of ``net`` as it would be with plain convolutions in place of all that collapse here."""
    blocks = {name: part for name, part in net.named_modules() if isinstance(part, ReparameterisedConv)}
    state = {
        key: value
        for key, value in net.state_dict().items()
        if not any(key.startswith(f"{name}.") for name in blocks)
    }
    for name, block in blocks.items():
        state |= {f"{name}.{key}": value for key, value in block.collapse().state_dict().items()}
    return state
