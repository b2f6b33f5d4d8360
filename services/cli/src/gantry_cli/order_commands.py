"""`gantry orders` and its subcommands."""

import click

from gantry_runtime.settings import load_settings


@click.group()
def orders() -> None:
    """What is to be done: orders, and the worklist that is made of them."""


@orders.command(name="list")
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), show_default=True)
@click.option("--all", "over", is_flag=True, help="Those that are over too, latest change first.")
def list_orders(*, limit: int, over: bool) -> int:
    """Show the scheduled steps that come next."""
    from gantry_cli.orders import show_orders

    return show_orders(load_settings(), limit=limit, over=over)


@orders.command(name="import")
@click.argument("file", metavar="FILE")
@click.option("--partition", default="main", show_default=True, metavar="NAME")
def import_(*, file: str, partition: str) -> int:
    """Take the orders of a JSON or CSV file (- is standard input), new or changed."""
    from gantry_cli.orders import import_orders

    return import_orders(load_settings(), file, partition=partition)


@orders.command()
@click.option("--retry", is_flag=True, help="Send again what was given up.")
@click.option("--to", "destination", metavar="AE", help="Of this destination alone.")
def reports(*, retry: bool, destination: str | None) -> int:
    """Show what is passed on of performed steps (MPPS) and not yet taken."""
    from gantry_cli.orders import show_reports

    return show_reports(load_settings(), retry=retry, destination=destination)
