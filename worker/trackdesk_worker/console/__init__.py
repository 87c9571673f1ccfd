"""The ops console: pages for browsers and an API for programs, thin over the services of `ops`.

Served by the exporter's process. Who asks is settled in `gate.py` before any handler runs; handlers are plain
functions that run in worker threads. Nothing is kept per visitor but sessions.
"""
