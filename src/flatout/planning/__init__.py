"""Plans a job: looks through its calls, chooses a sample, bounds what that costs, and forecasts the rest from it."""
