"""The `gantry` command."""

import click


@click.group()
def main() -> None:
    """Gantry, a mini-PACS of small services."""
