"""Denoisers: one contract (`base`), a table of classical ones (`table`), and learned architectures."""
