"""The ops console: pages for browsers and an API for programs, thin over the services of `ops`.

Served by the exporter's process. `auth.py` authenticates and authorizes each request before its handler runs; handlers
are plain functions that run in worker threads. Sessions are the only state per visitor.
"""
