"""Forge and its relatives reForge, Forge Classic and Forge Neo."""
