"""Denoisers of speech."""
