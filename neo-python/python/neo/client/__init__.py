"""The client of NEO: see `neozodb`."""
