"""Uses of an autoencoder's code besides cleaning.

segments    one file as equally shaped segments
embedding   an estimator with scikit-learn's protocol: fit, transform, inverse_transform
codes       codes of files, archived and turned into files again
anomalies   an outlier detector of the same protocol, on arrays and on files
evidence    what speaks against an item: distances, residuals, tails
neighbours  the nearest normal items
online      a series, each row judged by those before it
thresholds  the probability of a score among normal ones
"""
