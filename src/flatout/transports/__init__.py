"""HTTP: the only place that imports the HTTP client."""
