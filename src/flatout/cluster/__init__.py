"""What workers on several machines share: limits, by leases that a keeper grants (`flatout.policies.pacing.leases`)."""
