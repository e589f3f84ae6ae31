from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sharpkd.metrics
from sharpkd.functional.torchvision_guard import define_missing_operators, import_torchvision
import torchmetrics
define_missing_operators()
print(import_torchvision() is import_torchvision(), import_torchvision().__name__)
"""


def test_a_fresh_process_can_import_torchmetrics_and_torchvision() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True torchvision"
