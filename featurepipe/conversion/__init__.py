"""Weights in the formats their authors published, into the one safetensors layout that the backbones read."""
