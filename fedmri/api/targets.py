"""What is to be predicted, in the words of a notebook: the tasks that fedmri has."""

from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.gaussian_regression import GaussianRegression
from fedmri.tasks.kinds.multi_label import MultiLabel
from fedmri.tasks.kinds.reconstruction import Reconstruction
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.kinds.survival import Survival

__all__ = [
    "Classification",
    "GaussianRegression",
    "MultiLabel",
    "Reconstruction",
    "Regression",
    "Segmentation",
    "Survival",
]
