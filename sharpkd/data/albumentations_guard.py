"""The one place that imports albumentations first.

Albumentations 2.0.8 asks the network for a newer version while it is imported, which hangs a machine that is
behind a firewall. The variable below stops that, but only when it is set before the import.
"""

from __future__ import annotations

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A

__all__ = ["A"]
