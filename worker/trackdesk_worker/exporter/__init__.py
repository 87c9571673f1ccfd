"""The exporter: one snapshot of the store per scrape, as Prometheus metrics."""
