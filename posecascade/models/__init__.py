"""Networks: tables of backbones, part detectors and regressors, and the cascade built from them."""

from posecascade.models.backbones import BACKBONES, freeze, load_backbone
from posecascade.models.cascade import OPTIONS, cascade
from posecascade.models.detector import DETECTORS, part_detector
from posecascade.models.regressor import REGRESSORS, regressor

__all__ = ["BACKBONES", "DETECTORS", "OPTIONS", "REGRESSORS", "cascade", "freeze", "load_backbone", "part_detector",
           "regressor"]
