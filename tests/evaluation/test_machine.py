"""What figures were made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

import pytest
import torch

from sharpkd.evaluation.machine import machine


def test_names_versions_processor_and_threads() -> None:
    facts = machine()
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["torch"] == version("torch")
    assert facts["cpu"]
    assert facts["threads"] == torch.get_num_threads()
    assert len(facts["gpus"]) == torch.cuda.device_count()


def test_names_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    assert machine()["gpus"] == ["card 0", "card 1"]
