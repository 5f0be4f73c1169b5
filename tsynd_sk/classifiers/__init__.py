"""Default classifiers: small networks, dropout placed late, defaults for 50 to 5000 images.

Dropout sits behind the convolutions, so that the members of the network (see
`tsynd_sk.members`) share all that is expensive.
"""

from tsynd_sk.classifiers._default import ConvNet, DenseNet, NetClassifier
from tsynd_sk.classifiers._pretrained import Pretrained

__all__ = ["ConvNet", "DenseNet", "NetClassifier", "Pretrained"]
