"""`keyvalue-nats check`: looks at everything that a provider needs, and says what to do about the rest. It changes nothing.

Read `command`, then `examination`, which joins the parts; each of them returns findings.
"""
