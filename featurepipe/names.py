"""Names the command line offers, kept apart from their implementations so that `--help` loads nothing heavy.

A test compares each tuple with the registry it mirrors.
"""

DETECTORS = ("hog", "mmod", "dlib-mmod", "mtcnn", "none")
BACKBONES = ("fer-vgg", "vgg-face", "vgg16-imagenet", "facenet-vggface2", "dlib-resnet", "hog")
ARCHITECTURES = (
    "seed_cnn",
    "fer-vgg",
    "mollahosseini_inception",
    "lopes_cnn",
    "pacnn",
    "gacnn",
    "sbn_cnn",
    "agrawal_a",
    "agrawal_b",
    "ednn",
    "dlsvm",
    "dlsvm_paper",
    "kc_vgg",
    "ferplus_vgg13",
    "kim_cnn_lstm",
    "stc_nlstm",
)
DATABASES = (
    *("affectnet", "bu-3dfe", "casme2", "ck48", "ckextended", "ckplus", "fed-ro", "fer2013", "ferplus", "gemep-fera"),
    *("jaffe", "kdef", "mmi", "multipie", "oulu-casia", "raf-db", "rafd", "sfew"),
)
DATASETS = ("folder", "csv", "npz", *DATABASES)
FRAMES = ("apex", "all")
VOTE_RULES = ("majority", "probability", "cross-entropy", "multi-target")  # fit_cnn --votes
LARGEST_MARGIN = 10  # --margin: a crop then takes in the width of eleven faces
INDEPENDENT = "subject-independent"  # in compare: the further parts of a protocol that have nobody on both sides
TRAINED = "trained"  # classify --prior: labels as frequent as in training
EXPORTS = ("parquet", "csv", "npz", "mat")
LAYOUTS = ("vgg_face_caffe", "vgg_face_keras", "vgg_face_mcn", "vgg_face_torch7")
METHODS = ("svm", *(f"svm:{backbone}" for backbone in BACKBONES), *ARCHITECTURES)
PROTOCOLS = (
    *("fer2013_standard", "fer2013_kc_as_released", "ferplus_majority", "ck_si10_7", "ck_si10_8", "ck_si8_lopes"),
    *("ck_si8_lopes_7", "ck_seed_random", "jaffe_loso", "jaffe_kfold_image", "kdef_si", "rafdb_std", "affectnet7"),
    *("affectnet8", "oulu_si10", "mmi_si10", "mmi_loso", "casme2_loso", "fedro_cross", "kfold_subject", "holdout"),
)
BENCHMARKS = (
    *("mmod-cpu", "hog-cpu", "vgg16-forward", "dlib-resnet", "pipeline-vgg-face", "pipeline-fer-vgg"),
    *("users-loop", "linear-svm-fit", "linear-svm-fit-l2", "linear-svm-search", "linear-svm-search-small"),
    *("cache-read", "rerun", "memory-flat"),
    *("vgg16-int8", "users-loop-int8"),
    *("vgg16-rate", "pipeline-stored-boxes", "mmod-gpu", "linear-svm-gpu"),
)


def architecture_of(method: str) -> str:
    """The one of METHODS that a method of `compare` is or, as ARCHITECTURE@VARIANT, is a variant of."""
    return method.partition("@")[0]
