"""Texts that do not fit into one message: they travel between replicas in pieces.

Read `cutting` first: a message with such a text becomes a frame, which has everything else, and parts of the text. `arrivals`
collects the pieces that a replica publishes, `outgoing` paces their sending. A page of a transfer is fetched piece by piece.
"""
