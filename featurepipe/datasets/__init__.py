"""First stage: SOURCE in, samples out; and the splits of samples into folds."""
