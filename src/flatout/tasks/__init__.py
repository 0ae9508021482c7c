"""How tasks end, and how long they may take."""
