"""A teacher's outputs kept by input, so that an input that comes again costs no forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpkd.data.answer_store import AnswerStore

Compute = Callable[[Tensor, Tensor | None], Tensor]


class TeacherAnswers:
    """Looks outputs up by the input itself, and has the teacher run for those alone that are not there.

    An output's key is a BLAKE2b hash of the input's exact pixels, of the condition where the teacher is told
    one, and of what decides the answer otherwise: the SHA-256 of the teacher's file, its precision and its
    tiles. The pixels follow from image, crop, turn, degradation and all of their seeds and settings, so they
    stand for all of these; a key made of names and seeds would have to list every setting that changes a
    pixel, would go on finding old answers where the list forgot one or a photograph was replaced under its
    name, and would find nothing where two runs number the same crop differently. Hashing costs a millisecond
    for a few crops.

    Not in the key is what changes answers by rounding alone: the device, the number of threads, which inputs
    share a batch. Every output is rounded to the format in which it is kept, those just computed too, so that
    a training does not depend on what was there before it began.

    Args:
        folder: shared by teachers and processes; see :class:`~sharpkd.data.answer_store.AnswerStore`.
        name: of the teacher; the folder of its answers begins with it.
        identity: what decides its answers beside the input, by name (file, precision, tile).
        max_bytes: of the whole folder.
        kept_as: ``fp16`` or ``uint8``.

    Attributes:
        hits: outputs found since the beginning.
        misses: outputs computed.
        last_share: share of the last batch that was found, in [0, 1].

    Raises:
        ValueError, OSError: see :class:`~sharpkd.data.answer_store.AnswerStore`.
    """

    def __init__(
        self, folder: str, name: str, identity: dict[str, Any], max_bytes: float, kept_as: str = "fp16"
    ) -> None:
        described = repr(sorted({**identity, "kept_as": kept_as}.items())).encode()
        self._identity = hashlib.blake2b(described, digest_size=32).digest()
        owner = f"{name}-{self._identity.hex()[:16]}"
        self.store = AnswerStore(folder, owner, max_bytes, kept_as)
        self.hits = self.misses = 0
        self.last_share = 0.0

    def __str__(self) -> str:
        return f"{self.hits} outputs from teacher.cache={self.store.folder}, {self.misses} computed"

    def recall(self, degraded: Tensor, condition: Tensor | None, compute: Compute) -> Tensor:
        """The teacher's outputs for a batch, in its order and on its device.

        Args:
            degraded: ``(N, 3, h, w)``.
            condition: ``(N, k)``, as the teacher is told it, or None.
            compute: the teacher: called at most once, with those inputs together whose output is not kept.

        Returns:
            ``(N, 3, H, W)``, float32.
        """
        keys = self._keys(degraded, condition)
        outputs = {index: kept for index, key in enumerate(keys) if (kept := self.store.get(key)) is not None}
        missing = [index for index in range(len(keys)) if index not in outputs]
        self.last_share = len(outputs) / len(keys)
        self.hits += len(outputs)
        self.misses += len(missing)
        if len(missing) == len(keys):
            computed = compute(degraded, condition)
        elif missing:
            computed = compute(degraded[missing], None if condition is None else condition[missing])
        for place, index in enumerate(missing):
            outputs[index] = self.store.put(keys[index], computed[place].detach().float().cpu())
        return torch.stack([outputs[index] for index in range(len(keys))]).to(degraded.device)

    def _keys(self, degraded: Tensor, condition: Tensor | None) -> list[str]:
        images = degraded.detach().float().cpu()
        told = None if condition is None else condition.detach().float().cpu()
        keys = []
        for index, image in enumerate(images):
            digest = hashlib.blake2b(digest_size=16, key=self._identity)
            row = () if told is None else tuple(told[index].flatten().tolist())
            digest.update(repr((tuple(image.shape), row)).encode())
            digest.update(image.contiguous().numpy().data)
            keys.append(digest.hexdigest())
        return keys
