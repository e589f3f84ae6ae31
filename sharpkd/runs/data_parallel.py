"""Data parallel training in which validation asks no other process while it goes on."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.strategies import DDPStrategy


class DataParallel(DDPStrategy):
    """Lightning's DDP, but validation steps call the module itself, not the wrapper around it.

    The wrapper broadcasts the module's buffers before every forward pass, in validation too, so processes
    with unequal numbers of images would wait for each other for ever. Here they may have unequal numbers
    (see :meth:`sharpkd.data.datamodule.ImageDataModule.val_dataloader`): what each measured is added up
    once, at the end of a validation.

    Its settings are those of ``DDPStrategy`` and of torch's ``DistributedDataParallel``, such as
    ``process_group_backend="gloo"`` or ``gradient_as_bucket_view=True``.
    """

    shares_validation = True

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own step."""
        assert self.lightning_module is not None
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)
