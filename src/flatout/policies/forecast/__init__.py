"""Forecasts what the calls that are left will cost and take, from those that were asked. It is pure."""
