"""The two kinds of failure: told apart once, where they arise, and translated once, at the door."""


class GantryError(Exception):
    """A failure that Gantry names. Its text is one line for people and holds no patient data."""


class PermanentError(GantryError):
    """Trying again changes nothing."""


class TransientError(GantryError):
    """The same attempt may succeed later."""


class ConfigurationError(PermanentError):
    """What the user wrote, or where they run Gantry, must change before it can start."""


class UnreadableObject(PermanentError):
    """A stored object whose header cannot be indexed.

    `reason` is a slug such as `missing_study_uid` that may be shown, counted and logged.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the object cannot be indexed: {reason}")
        self.reason = reason
