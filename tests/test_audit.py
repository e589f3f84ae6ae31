"""``make audit`` where nobody can be asked."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def audit(project_root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_audit", project_root / "tools" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def with_pip_audit(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(audit, "find_spec", lambda name: name)
    return audit


def test_no_service(
    with_pip_audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"  # nobody listens there
        monkeypatch.setattr(with_pip_audit, "SERVICES", {"osv": url})
        assert with_pip_audit.main([]) == 2
    assert capsys.readouterr().err == f"no audit: {url} cannot be reached ([Errno 111] Connection refused)\n"


def test_pip_audit_is_missing(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "find_spec", lambda name: None)
    assert audit.main([]) == 2
    assert capsys.readouterr().err == "no audit: pip-audit is not installed; pip install -e '.[audit]'\n"


def test_every_pin_is_asked_about(
    with_pip_audit: ModuleType, monkeypatch: pytest.MonkeyPatch, project_root: Path
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str]) -> Any:
        commands.append(command)
        return type("Done", (), {"returncode": 1})

    answered: Callable[[str], None] = lambda _: None  # noqa: E731  # a name for its type
    monkeypatch.setattr(with_pip_audit, "reason_not_reached", answered)
    monkeypatch.setattr(with_pip_audit.subprocess, "run", run)
    assert with_pip_audit.main(["--service", "pypi"]) == 1
    ((*_, requirement, path, no_deps, no_pip, strict, _, service, _, _),) = commands
    assert (requirement, Path(path)) == ("--requirement", project_root / "constraints.txt")
    assert (no_deps, no_pip, strict, service) == ("--no-deps", "--disable-pip", "--strict", "pypi")
