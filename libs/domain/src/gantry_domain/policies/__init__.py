"""Policies: rules as data, each a pure function from a study's facts to findings."""
