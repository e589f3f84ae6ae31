"""``make audit``: are there known vulnerabilities in the versions of constraints.txt?

pip-audit asks an advisory service (OSV, or with ``--service pypi`` the package index) about each pinned
version. Exit code 0: none known; 1: some are, each named with the version that mends it; 2: nobody was asked,
because the service cannot be reached or pip-audit is not installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
SERVICES = {"osv": "https://api.osv.dev/", "pypi": "https://pypi.org/"}
PATIENCE = 10
"""Seconds that the service may take for its first answer."""


def reason_not_reached(url: str) -> str | None:
    """Why an address gives no answer; None where it gives any."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):
            return None
    except urllib.error.HTTPError as error:
        # a proxy that lets nobody through answers so, the service itself does not
        return (
            f"the server answers {error.code} {error.reason}" if error.code in (403, 407, 502, 503) else None
        )
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--service", choices=SERVICES, default="osv")
    given = parser.parse_args(arguments)
    if find_spec("pip_audit") is None:
        print("no audit: pip-audit is not installed; pip install -e '.[audit]'", file=sys.stderr)
        return 2
    reason = reason_not_reached(SERVICES[given.service])
    if reason is not None:
        print(f"no audit: {SERVICES[given.service]} cannot be reached ({reason})", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps"]
    command += [
        "--disable-pip",
        "--strict",
        "--vulnerability-service",
        given.service,
        "--progress-spinner",
        "off",
    ]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
