"""Compression of images by a learned transform and a range coder."""
