"""The commands that write files and take files in: `gantry export` and `gantry import`."""

from pathlib import Path

import click

from gantry_domain.media_profiles import DEFAULT_PROFILE, PROFILES
from gantry_runtime.settings import load_settings


@click.command()
@click.argument("uids", nargs=-1, required=True, metavar="STUDY|SERIES|INSTANCE-UID...")
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.zip|FOLDER",
    help="Where the files go.",
)
@click.option("--dicomdir", is_flag=True, help="Make a file-set for media, with a DICOMDIR.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    help="Which syntaxes the file-set may have; else the first, uncompressed.",
)
@click.option("--partition", metavar="NAME", help="Where to look, if a UID is not unique.")
def export(
    *,
    uids: tuple[str, ...],
    to: Path,
    dicomdir: bool,
    profile: str | None,
    partition: str | None,
) -> int:
    """Write studies, series or instances as DICOM files.

    With what people corrected. What is in another syntax than the file-set may have is converted.
    """
    from gantry_cli.exporting import export as run_export

    chosen = profile or (DEFAULT_PROFILE if dicomdir else None)
    return run_export(load_settings(), uids, to=to, profile=chosen, partition=partition)


@click.command(name="import")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@click.option("--as", "sender", metavar="AE", default="IMPORT", show_default=True)
@click.option("--partition", metavar="NAME", help="Else that of the sender.")
@click.option("--at-once", default=4, type=click.IntRange(1, 32), show_default=True)
def import_(*, paths: tuple[Path, ...], sender: str, partition: str | None, at_once: int) -> int:
    """Take in the DICOM files of folders, of ZIP files, or of a DICOMDIR.

    Rules and limits are as for what is sent by the AE title of --as. May be ended and started
    again: what is here byte for byte is not stored twice.
    """
    from gantry_cli.importing import import_files

    return import_files(load_settings(), paths, sender=sender, partition=partition, at_once=at_once)
