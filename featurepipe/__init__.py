"""Photos of faces to emotions: dlib faces, VGG fc7 vectors, a linear SVM, and CNN baselines beside it."""

__version__ = "0.1.0"
