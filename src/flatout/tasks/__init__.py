"""How tasks end, how long they may take, and which event loop they run on."""
