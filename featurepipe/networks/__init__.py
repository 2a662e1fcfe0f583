"""Network definitions that both the feature and the model stage run: plain torch modules, no training, no files."""
