"""Relay the requests of other programs: a vendor's SDK, a framework, or a client of the gateway.

Such a request is a call like any other: it waits for its turn, is retried, billed and cached. But its bytes belong to
the program that made them. So they go on as they are to a target that speaks their format, and the answer's bytes come
back as they are. A target of another format gets the call in its own words, and the answer is translated back.

- `Relayed` is such a call, and `Wire` what is known of its request;
- `RelayCodec` sends it, and `declined` makes an answer of a refusal;
- an `Inbound` is the server's side of a wire format: it reads requests, and writes answers.
"""

from .codec import RelayCodec, declined
from .inbound import Asked, Inbound, Origin, inbound_for
from .relayed import Relayed, Wire

__all__ = ["Asked", "Inbound", "Origin", "RelayCodec", "Relayed", "Wire", "declined", "inbound_for"]
