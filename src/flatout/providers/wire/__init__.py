"""What the wire formats share: requests, answers, streams."""
