"""Intervals, fronts, plots and the page of an evaluation."""
