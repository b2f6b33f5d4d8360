"""`gantry destinations ...`: what the commands take."""

import click

from gantry_runtime.settings import load_settings


@click.group()
def destinations() -> None:
    """Partners that can be sent to: whether they are, and a hand in it."""


@destinations.command(name="list")
def list_destinations() -> int:
    """Show each destination, and why nothing is sent there where that is so."""
    from gantry_cli.destinations import show_destinations

    return show_destinations(load_settings())


@destinations.command(name="pause")
@click.argument("title", metavar="AE")
@click.option("--drain", is_flag=True, help="Let what is being sent come to its end.")
def pause_destination(*, title: str, drain: bool) -> int:
    """Send nothing there until it is resumed."""
    from gantry_cli.destinations import pause

    return pause(load_settings(), title, drain=drain)


@destinations.command(name="resume")
@click.argument("title", metavar="AE")
def resume_destination(*, title: str) -> int:
    """Send there again."""
    from gantry_cli.destinations import resume

    return resume(load_settings(), title)
