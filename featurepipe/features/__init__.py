"""Third stage: face crops in, vectors out, kept in the feature table."""
