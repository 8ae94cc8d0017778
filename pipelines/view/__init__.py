"""Reports as one HTML file each: charts, a table, and what every file was before and after."""

from pipelines.view.page import Page, as_html

__all__ = ["Page", "as_html"]
