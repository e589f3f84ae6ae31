"""Distance between the features of a pretrained classifier: L_perceptual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpkd.functional.check import check_pair, full_precision
from sharpkd.functional.frozen import Frozen
from sharpkd.functional.state_file import fetch, load_state, read_state
from sharpkd.functional.torchvision_guard import define_missing_operators, import_torchvision

SMALLEST_SIDE = 32
"""Pixels. Below this the deepest layers have nothing left to pool."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained classifier, cut into named stages.

    Attributes:
        net: the whole classifier, untrained, in the layout of its weight file.
        stages: name -> module; applied one after the other.
        url: where its ImageNet weights are.
        mean, std: what it expects a [0, 1] RGB image to be normalised with.
        layers: the stages whose outputs are compared by default.
    """

    net: nn.Module
    stages: dict[str, nn.Module]
    url: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: tuple[str, ...]


def _vgg19() -> Backbone:
    models = import_torchvision().models
    net = models.vgg19(weights=None, init_weights=False)
    stages: dict[str, nn.Module] = {}
    block, depth = 1, 1
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            stages[f"conv{block}_{depth}"] = module
        elif isinstance(module, nn.ReLU):
            stages[f"relu{block}_{depth}"] = module
            depth += 1
        else:
            stages[f"pool{block}"] = module
            block, depth = block + 1, 1
    weights = models.VGG19_Weights.IMAGENET1K_V1
    layers = ("relu1_2", "relu2_2", "relu3_4", "relu4_4")
    return Backbone(net, stages, weights.url, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), layers)


def _squeezenet1_1() -> Backbone:
    models = import_torchvision().models
    net = models.squeezenet1_1(weights=None)
    names = ["conv1", "relu1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"]
    names += ["fire6", "fire7", "fire8", "fire9"]
    stages = dict(zip(names, net.features, strict=True))
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    layers = ("relu1", "fire3", "fire5", "fire7")
    return Backbone(net, stages, weights.url, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), layers)


def _tf_efficientnet_lite0() -> Backbone:
    define_missing_operators()
    import timm

    name = "tf_efficientnet_lite0"
    net: Any = timm.create_model(name, pretrained=False)
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(net.conv_stem, net.bn1)}
    stages |= {f"block{i}": block for i, block in enumerate(net.blocks)}
    config: Any = timm.get_pretrained_cfg(name)
    layers = ("block0", "block1", "block2", "block4")
    return Backbone(net, stages, config.url, tuple(config.mean), tuple(config.std), layers)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "vgg19": _vgg19,
    "squeezenet1_1": _squeezenet1_1,
    "tf_efficientnet_lite0": _tf_efficientnet_lite0,
}


class FeatureStack(nn.Module):
    """``(N, 3, H, W)`` in [0, 1] -> the outputs of the chosen stages, shallow to deep."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, layers: Sequence[str]) -> None:
        super().__init__()
        names = list(backbone.stages)
        if not layers or not set(layers) <= set(names):
            raise ValueError(
                f"loss.perceptual.layers={list(layers)} is empty or names unknown layers; "
                f"choose from {', '.join(names)}"
            )
        deepest = max(names.index(layer) for layer in layers)
        self.stages = nn.ModuleDict({name: backbone.stages[name] for name in names[: deepest + 1]})
        self.layers = frozenset(layers)
        for stage in self.stages.values():
            # In place, it would overwrite the convolution output that another layer compares.
            if isinstance(stage, nn.ReLU):
                stage.inplace = False
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """One ``(N, C_l, H_l, W_l)`` per layer."""
        features = []
        x = (image - self.mean) / self.std
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.layers:
                features.append(x)
        return features


class PerceptualLoss(nn.Module):
    """Mean over layers of the mean distance between features, >= 0.

    Johnson, Alahi and Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution", ECCV
    2016, eq. 2. The network is frozen and unseen: in no state dict, parameter list or copy. It runs in fp32
    under autocast: the features of two nearly equal images differ by less than bfloat16 resolves.

    Args:
        backbone: vgg19 | squeezenet1_1 | tf_efficientnet_lite0.
        weights: a local file in torchvision's or timm's layout; None takes the official file from torch's hub
            cache and downloads it there on first use (vgg19: 548 MB).
        layers: whose outputs to compare; None for the backbone's usual ones.
        criterion: l1 | l2 (squared).

    Raises:
        FileNotFoundError: the weights cannot be had; says where to put them.
        ValueError: an unknown backbone, layer or criterion, or a file that does not fit.
    """

    def __init__(
        self,
        backbone: str = "vgg19",
        weights: str | None = None,
        layers: list[str] | None = None,
        criterion: str = "l1",
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(
                f"loss.perceptual.backbone={backbone} is unknown; choose from {', '.join(BACKBONES)}"
            )
        if criterion not in ("l1", "l2"):
            raise ValueError(f"loss.perceptual.criterion={criterion} is unknown; choose from l1, l2")
        self.criterion = criterion
        self._check_file(backbone, weights)
        built = BACKBONES[backbone]()
        stack = FeatureStack(built, built.layers if layers is None else layers)
        path = self._find(backbone, weights, built.url)
        load_state(built.net, read_state(path), path)
        self.features = Frozen(stack)

    @staticmethod
    def _check_file(backbone: str, weights: str | None) -> None:
        if weights is not None and not Path(weights).is_file():
            raise FileNotFoundError(
                f"no weights for the perceptual loss at {weights}: put the ImageNet weights of {backbone} "
                "there, name another file with loss.perceptual.weights=PATH, or switch the term off with "
                "loss.beta=0"
            )

    @staticmethod
    def _find(backbone: str, weights: str | None, url: str) -> Path:
        if weights is not None:
            return Path(weights)
        try:
            return fetch(url)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no weights for the perceptual loss ({backbone}): {error}. Put the file there, name a local "
                "copy with loss.perceptual.weights=PATH, or switch the term off with loss.beta=0"
            ) from error

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        """``(N, 3, H, W)`` twice, RGB in [0, 1], sides >= 32 -> scalar; gradients reach ``output`` only.

        Raises:
            ValueError: shapes differ, or the images are too small.
        """
        check_pair(output, sharp)
        if output.shape[1] != 3 or min(output.shape[-2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"the perceptual loss needs RGB images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, "
                f"got shape {tuple(output.shape)}"
            )
        with torch.autocast(device_type=output.device.type, enabled=False):
            found = self.features(full_precision(output))
            with torch.no_grad():
                wanted = self.features(full_precision(sharp))
            distances = [self._distance(a - b) for a, b in zip(found, wanted, strict=True)]
            return torch.stack(distances).mean()

    def _distance(self, difference: Tensor) -> Tensor:
        return (difference.abs() if self.criterion == "l1" else difference.square()).mean()
