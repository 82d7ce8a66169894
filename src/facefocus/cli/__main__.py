"""``python -m facefocus.cli``."""

from facefocus.cli import main

main()
