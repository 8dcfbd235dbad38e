"""The page of `keyvalue-nats dev --ui`: the development lattice in a browser.

Read `lattice_view` (the content: links, calls, keys, replicas, the form) and `callers` (what differs between the families of
hosts), then `server` (HTTP on loopback, and which requests it refuses), then the page itself, `page.html` and `page.js`.
"""
