"""A loader over shards, which continues only over the same ones."""

from __future__ import annotations

from typing import Any

from sharpkd.data.loader import ResumableLoader


class ShardLoader(ResumableLoader):
    """A :class:`sharpkd.data.loader.ResumableLoader` whose state also says which shards its order is of.

    Attributes:
        fingerprint: of the shards, see :class:`sharpkd.data.shards.images.ShardImages`.
    """

    fingerprint: str = ""

    def state_dict(self) -> dict[str, Any]:
        """``{"epoch", "batches", "shards"}``: numbers and the fingerprint."""
        return {**super().state_dict(), "shards": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there.

        Raises:
            ValueError: the state is of other shards, or beyond an epoch's end.
        """
        before = state_dict.get("shards")
        if before != self.fingerprint:
            raise ValueError(
                f"the checkpoint was made with other shards (fingerprint {before}, now {self.fingerprint}), "
                "so nobody knows which images are left of its epoch: put back the shards that were there, or "
                "start another run with run=NAME"
            )
        super().load_state_dict(state_dict)
