"""Fourth stage: vectors or crops in, a fitted classifier out."""
