"""Where the files of a job are processed."""
