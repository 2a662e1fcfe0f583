"""The weights that ship with featurepipe, installed as featurepipe.shipped."""
