"""The field's other networks, one file each: ``model=NAME`` beside `samplecnn.model.network.SampleCNN`."""

from samplecnn.model.networks.crnn import CRNN
from samplecnn.model.networks.dieleman import Dieleman
from samplecnn.model.networks.fcn import FCN
from samplecnn.model.networks.harmonic import Harmonic
from samplecnn.model.networks.musicnn import Musicnn
from samplecnn.model.networks.network import Network
from samplecnn.model.networks.shortchunk import ShortChunk
from samplecnn.model.networks.timbre import Timbre

# The short names that configurations and model files store.
NETWORKS: dict[str, type[Network]] = {
    "fcn": FCN,
    "crnn": CRNN,
    "musicnn": Musicnn,
    "shortchunk": ShortChunk,
    "harmonic": Harmonic,
    "timbre": Timbre,
    "dieleman": Dieleman,
}
