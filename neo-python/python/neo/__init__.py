"""`neo.client`, for those who know NEO: see `neozodb`."""
