"""From a model's name to cleaned arrays and files.

catalogue     names, weights files and digests; load
cleaner       a loaded model, ready for arrays
selection     the contract of automatic selection; select_image and select_audio keep it
apply         one array, tile by tile (tiles)
stream        one signal, block by block, through stages; gaps fills short ones
file          one file to another; profile reads a noise profile
precision     bfloat16 inference
progress      the share of an image that is done
transformer   the transformer protocol of scikit-learn
"""
