"""Fakes, loopback peers, datasets and the pytest plugin; never imported by production code."""
