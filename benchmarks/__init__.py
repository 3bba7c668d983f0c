"""Measurements that README and docs quote: ratios taken in one run."""
