"""`python -m lib_pg evaluate`."""
