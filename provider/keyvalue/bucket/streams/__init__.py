"""Values of any size as streams of bytes, for the command line and the state-proxy: read and written in the memory of a few pages.

`payload_pieces` reads one, `streamed_put` writes one.
"""
