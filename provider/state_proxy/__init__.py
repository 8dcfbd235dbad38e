"""The state-proxy connector: an actor's files, spoken over HTTP on a unix socket, kept in a bucket by the provider's engine."""
