"""Tables in, the same tables with answers out."""
