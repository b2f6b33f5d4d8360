"""The frames that a path names: `/frames/1,3,2`, from 1, in the order asked (PS3.18 10.4.1.1.6)."""

import re

from gantry_domain.query import BadQuery

MOST_FRAMES = 10_000


def frame_numbers(text: str) -> list[int]:
    """The frames of a list. Raises `BadQuery`."""
    parts = text.split(",")
    if len(parts) > MOST_FRAMES:
        raise BadQuery("frames", f"names more than {MOST_FRAMES}")
    if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,8}\s*", part) for part in parts):
        raise BadQuery("frames", "is not a list of numbers from 1 on")
    return [int(part) for part in parts]
