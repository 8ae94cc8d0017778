"""Local web page: drop files, see and hear them before and after, and download them."""
