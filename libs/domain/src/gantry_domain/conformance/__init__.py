"""Conformance statements (PS3.2): one model, its forms, and what is decided on it."""
