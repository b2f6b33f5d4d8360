"""The queue between the services: Celery tasks over Redis, and the publisher of receipts."""
