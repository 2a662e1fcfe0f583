from featurepipe.commands.library import classify as classify
from featurepipe.commands.library import crops as crops
from featurepipe.commands.library import fit as fit
from featurepipe.commands.library import vectors as vectors
from featurepipe.datasets.readers import read_source as read_source
from featurepipe.errors import FeaturepipeError as FeaturepipeError
from featurepipe.features.backbones import load_backbone as load_backbone
from featurepipe.features.extraction import extract as extract
from featurepipe.features.table import FeatureTable as FeatureTable
from featurepipe.models.cnn import CNNClassifier as CNNClassifier
from featurepipe.models.linear_svm import LinearSVM as LinearSVM
from featurepipe.models.persistence import load_model as load_model
from featurepipe.models.svm import LinearSVMCV as LinearSVMCV

__version__: str
