"""The worklist service: orders in by HL7, worklists out, and what was performed."""
