"""Celery workers: index, judge, sweep."""
