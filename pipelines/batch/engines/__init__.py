"""Engines that process the files of a job."""
