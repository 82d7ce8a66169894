"""The command line: every line of terminal text."""

import time

#: When the program was started; all else is imported after this.
BEGAN = time.time()


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    from facefocus.cli.app import main as run

    run()
