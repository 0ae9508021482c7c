"""The batch lane: rows are submitted to the provider's batch endpoint, and the run file is the ledger of what was."""
