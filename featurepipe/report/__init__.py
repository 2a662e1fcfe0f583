"""Last stage: predictions in, numbers and pictures out."""
