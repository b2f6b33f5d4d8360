"""Gantry's pure values and decisions: no input, no output."""
