"""`python -m lib_pg inspect`."""
