"""Jobs over many files, and the command line: everything that walks folders, prints or keeps a manifest.

`pipelines` uses `denoise`; `denoise` never uses `pipelines`.
"""
