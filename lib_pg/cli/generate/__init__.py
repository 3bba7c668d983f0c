"""`python -m lib_pg generate`."""
