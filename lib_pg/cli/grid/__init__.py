"""`python -m lib_pg grid`."""
