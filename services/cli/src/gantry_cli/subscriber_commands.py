"""`gantry subscribers ...`: what the commands take."""

import click

from gantry_runtime.settings import load_settings

_name = click.argument("name", metavar="NAME")


@click.group()
def subscribers() -> None:
    """Who is told of events: whether they are, and a hand in it."""


@subscribers.command(name="list")
def list_subscribers() -> int:
    """Show each subscriber, how far it is, and why it is not told where that is so."""
    from gantry_cli.subscribers import show_subscribers

    return show_subscribers(load_settings())


@subscribers.command(name="pause")
@_name
def pause_subscriber(*, name: str) -> int:
    """Tell it nothing until it is resumed; it misses nothing."""
    from gantry_cli.subscribers import pause

    return pause(load_settings(), name)


@subscribers.command(name="resume")
@_name
def resume_subscriber(*, name: str) -> int:
    """Tell it again, at once, from where it was."""
    from gantry_cli.subscribers import resume

    return resume(load_settings(), name)


@subscribers.command(name="replay")
@_name
@click.option(
    "--after", required=True, type=click.IntRange(0, 10**18), help="The number of an event."
)
def replay_to_subscriber(*, name: str, after: int) -> int:
    """Tell it again all that came after an event (0: all that is kept)."""
    from gantry_cli.subscribers import replay

    return replay(load_settings(), name, after=after)


@subscribers.command(name="retry")
@_name
def retry_subscriber(*, name: str) -> int:
    """Tell it again what it refused, or did not take for too long."""
    from gantry_cli.subscribers import retry

    return retry(load_settings(), name)
