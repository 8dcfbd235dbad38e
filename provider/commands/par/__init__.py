"""`keyvalue-nats par`: provider archives. Read `command` first, then `build`."""
