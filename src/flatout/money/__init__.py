"""The money of a client: what calls cost, what they may cost, and what may be spent."""
