"""Image files, one module for each format."""
