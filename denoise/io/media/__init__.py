"""Media containers through PyAV (FFmpeg's libraries, the extra `media`): only their sound is changed."""
