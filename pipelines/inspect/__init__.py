"""Inspection of inputs, results and installations."""
