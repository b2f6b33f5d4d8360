"""What all parts of the configuration file have in common: unknown keys are refused."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the file; its values are not echoed in errors, for they may be secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)
