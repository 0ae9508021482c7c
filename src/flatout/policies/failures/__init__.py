"""What a failed attempt means for its call, and for its target."""
