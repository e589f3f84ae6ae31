"""``python -m sharpkd.cli`` is the `sharpkd` command."""

from sharpkd.cli.command import main

if __name__ == "__main__":
    main()
