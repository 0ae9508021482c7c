"""What a failed attempt means: for the call, and for its target."""
