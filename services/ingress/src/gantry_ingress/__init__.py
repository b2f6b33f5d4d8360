"""The DIMSE front door: verification and storage."""
