"""What a network costs and sees: counted, and measured on the network itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sharpkd.nets.base import CHANNELS, RestorationNet


def count_parameters(net: nn.Module) -> int:
    """Number of parameters, trainable or not, of the net as it stands."""
    return sum(p.numel() for p in net.parameters())


def measured_macs_per_pixel(net: nn.Module, size: int = 768, device: str = "meta") -> float:
    """Multiply-accumulates per output pixel that torch counts in one pass over a size x size image.

    Runs on a copy of the deployed form (``RestorationNet.deployed``) on the meta device, in evaluation mode:
    no memory, no time; another device is for nets that look at values. The limit for large images is
    ``net.macs_per_pixel()``; a size that is a multiple of the net's stride has no padding.
    """
    twin = copy.deepcopy(_deployed(net)).to(device).eval()
    dtype = next(twin.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = twin(torch.zeros(1, CHANNELS, size, size, device=device, dtype=dtype))
    return counter.get_total_flops() / 2 / (output.shape[-2] * output.shape[-1])


def _make_positive(net: nn.Module) -> None:
    """Give every weight a positive value and every unit a sum of one, so that no two paths can cancel."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            values = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype) + 0.5
            parameter.copy_(values / values[0].numel() if parameter.ndim > 1 else values / 10)


def measured_receptive_field(net: RestorationNet, max_size: int = 512) -> int | None:
    """Side of the centred window of input pixels that have a gradient to an output pixel, over all phases.

    Runs on a double precision copy with positive weights, on the CPU, on images that grow until it fits.
    None when it still does not fit at ``max_size`` pixels: then the net looks at everything, or nearly.
    """
    twin = copy.deepcopy(net).to("cpu", torch.float64).eval()
    _make_positive(twin)
    size = 32
    while size <= max_size:
        reach = _reach_at(twin, size)
        if reach is not None:
            return 2 * reach + 1
        size *= 2
    return None


def _reach_at(net: RestorationNet, size: int) -> int | None:
    """Largest distance on an axis between input pixels: that of an output pixel and one with influence on it.

    None where the image cuts it off.
    """
    # Small values keep sigmoids away from where their slope rounds to zero.
    image = torch.full((1, CHANNELS, size, size), 1e-3, dtype=torch.float64, requires_grad=True)
    output = net(image)
    first = size // 2 // net.stride * net.stride
    reach = 0
    if first + net.stride > size:
        return None
    for place in range(first * net.scale, (first + net.stride) * net.scale):
        (gradient,) = torch.autograd.grad(output[..., place, place].sum(), image, retain_graph=True)
        seen = _extent(gradient)
        if seen[0] == 0 or seen[1] == size - 1:
            return None
        reach = max(reach, place // net.scale - seen[0], seen[1] - place // net.scale)
    return reach


def _extent(gradient: Tensor) -> tuple[int, int]:
    """First and last row or column of (1, 3, H, W) that is not zero."""
    touched = gradient.abs().sum((0, 1)) > 0
    places = torch.cat([touched.any(0).nonzero().flatten(), touched.any(1).nonzero().flatten()])
    return int(places.min()), int(places.max())


def describe(net: nn.Module) -> dict[str, int | float | None]:
    """The figures that every table shows: parameters, macs_per_pixel, receptive_field (pixels or None).

    Of a net that is trained in a richer form than it ships in, they are those of the latter
    (``RestorationNet.deployed``). Of a user's net that declares nothing, the MACs are counted and the
    receptive field is None.
    """
    net = _deployed(net)
    parameters = count_parameters(net)
    if not isinstance(net, RestorationNet):
        macs = measured_macs_per_pixel(net)
        return {"parameters": parameters, "macs_per_pixel": macs, "receptive_field": None}
    return {
        "parameters": parameters,
        "macs_per_pixel": net.macs_per_pixel(),
        "receptive_field": net.receptive_field,
    }


def _deployed(net: nn.Module) -> nn.Module:
    return net.deployed()[0] if isinstance(net, RestorationNet) else net
