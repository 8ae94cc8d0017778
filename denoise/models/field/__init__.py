"""Denoisers of recordings other than speech."""
