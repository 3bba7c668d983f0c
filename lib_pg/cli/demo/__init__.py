"""`python -m lib_pg demo`."""
