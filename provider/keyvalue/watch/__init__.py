"""Tell an actor of the changes in a bucket. Read `watch` first."""
