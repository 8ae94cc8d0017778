"""Embeddings and anomalies of many files."""
