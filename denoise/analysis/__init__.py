"""What an autoencoder is for besides cleaning: its code.

excerpts    one file as equally shaped parts, each of which gets a code
embedding   an estimator with scikit-learn's protocol: fit, transform, inverse_transform
codes       codes of files, kept in an archive, and turned into files again
anomalies   an outlier detector of the same protocol, and what it says of one file
tails       how unlikely a score is
"""
