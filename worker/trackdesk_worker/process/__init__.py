"""A worker process: connections, Celery application, runtime, watchdog, supervisor."""
