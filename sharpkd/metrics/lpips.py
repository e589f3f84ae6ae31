"""Learned perceptual image patch similarity (Zhang, Isola, Efros, Shechtman and Wang, CVPR 2018)."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sharpkd.functional.frozen import Frozen
from sharpkd.functional.state_file import load_state, read_state
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.metrics.per_image import PerImageMetric

SMALLEST_SIDE = {"squeeze": 32, "alex": 64, "vgg": 32}
"""Pixels each backbone needs. The keys are the backbones the lpips package knows."""

log = logging.getLogger(__name__)


def _build(backbone: str, weights: str | Path, lin: str | Path | None) -> nn.Module:
    define_missing_operators()
    import lpips

    with warnings.catch_warnings():
        # lpips 0.1.4 calls torchvision with the deprecated `pretrained=False`.
        warnings.filterwarnings("ignore", "The parameter 'pretrained'|Arguments other", UserWarning)
        net = lpips.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False)
    trunk = read_state(weights)
    # torchvision's `features.3.weight` is lpips' `slice2.3.weight`.
    renamed = {name: "features." + name.partition(".")[2] for name in net.net.state_dict()}
    load_state(net.net, {name: trunk[old] for name, old in renamed.items() if old in trunk}, weights)
    lin = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{backbone}.pth" if lin is None else lin
    heads = {name.replace("lin", "", 1): tensor for name, tensor in read_state(lin).items()}
    load_state(net.lins, heads, lin)
    return net


class LPIPS(PerImageMetric):
    """Mean over images of the LPIPS distance (version 0.1), >= 0, lower is better, 0 for identical images.

    Values depend on the backbone and on its weight file: compare only what was measured with the same two.
    The network is in no state dict or parameter list.

    Args:
        backbone: squeeze | alex | vgg.
        weights: local file of the backbone's ImageNet weights in torchvision's layout (squeezenet1_1, alexnet
            or vgg16).
        lin: local file of the linear heads; None for those in the lpips package.
        quantise: round both images to 8 bit first.
        kwargs: for ``torchmetrics.Metric``.

    Raises:
        FileNotFoundError: a file is missing. Use ``maybe_lpips`` to go without.
        ValueError: an unknown backbone, a file that does not fit it, or (in ``update``) too small images.
    """

    higher_is_better = False

    def __init__(
        self,
        backbone: str = "squeeze",
        weights: str | Path | None = None,
        lin: str | Path | None = None,
        quantise: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(quantise=quantise, **kwargs)
        if backbone not in SMALLEST_SIDE:
            raise ValueError(
                f"LPIPS backbone {backbone!r} is unknown; choose from {', '.join(SMALLEST_SIDE)}"
            )
        if weights is None:
            raise FileNotFoundError(
                f"LPIPS needs the ImageNet weights of its backbone, {backbone}, as a local file; "
                "none was named"
            )
        self.backbone = backbone
        self.net = Frozen(_build(backbone, weights, lin))

    def score(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N,)``."""
        side = SMALLEST_SIDE[self.backbone]
        if output.shape[1] != 3 or min(output.shape[-2:]) < side:
            raise ValueError(
                f"LPIPS with {self.backbone} needs RGB images of at least {side}x{side} pixels, "
                f"got shape {tuple(output.shape)}"
            )
        return self.net(output, sharp, normalize=True).flatten()


def available(weights: str | Path | None) -> bool:
    """Whether LPIPS can be measured: its backbone's weight file is named and there."""
    return weights is not None and Path(weights).is_file()


def maybe_lpips(
    backbone: str = "squeeze",
    weights: str | Path | None = None,
    lin: str | Path | None = None,
    quantise: bool = False,
) -> LPIPS | None:
    """The LPIPS metric, or None where the weight file is missing: the figure is then left blank."""
    if available(weights):
        return LPIPS(backbone, weights, lin, quantise)
    if weights is not None:
        log.warning("LPIPS is left blank: no weight file at %s", weights)
    return None
