"""Plans the job of a file: asks a sample of its rows, keeps the answers, and forecasts the rest."""
