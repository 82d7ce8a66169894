"""The command line: every line of terminal text."""


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    from facefocus.cli.app import main as run

    run()
