"""The `sharpkd` command, for people who only want sharp pictures.

Imports what it needs when it needs it: ``--help`` answers at once, torch is loaded only for its engine.
"""

from sharpkd.cli.command import app, main

__all__ = ["app", "main"]
