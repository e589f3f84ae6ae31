"""A module that is used but never trained, saved, averaged or copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Frozen(nn.Module):
    """Hold a module so that PyTorch finds none of its parameters, but moves it with the rest.

    The module sits in a tuple, where ``nn.Module`` does not look: it is in no ``parameters()``,
    ``buffers()``, ``state_dict()``, optimizer, DDP bucket or checkpoint. Moving the owner to a device or
    dtype moves it too; deep copies of the owner (EMA) share it. It stays in eval mode whatever ``train()``
    says.

    ``forward`` runs the module *with* autograd, so that gradients reach the input (a perceptual loss needs
    them); they never reach its parameters. A caller who needs no gradient wraps the call in
    ``torch.no_grad()``.

    Args:
        module: taken over in place: eval mode, ``requires_grad=False``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        module.eval().requires_grad_(False)
        self._held = (module,)
        self.training = False

    @property
    def module(self) -> nn.Module:
        """The module itself."""
        return self._held[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the held module returns for these arguments."""
        return self._held[0](*args, **kwargs)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode, also where something has switched the held module behind our back."""
        del mode
        super().train(False)
        self._held[0].eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        super()._apply(fn, recurse)
        self._held[0]._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        memo[id(self)] = self
        return self

    def extra_repr(self) -> str:
        return f"{type(self._held[0]).__name__}, not trained, not saved"
