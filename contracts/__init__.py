"""What travels between host, actor and provider: typed structs and their bytes. No I/O, no clock, no policy."""
