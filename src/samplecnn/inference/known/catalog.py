"""Published weights that ``samplecnn pull`` brings: where they are, what they are, what they scored.

A user's machine fetches a file from where its authors put it: nothing is handed out again. Git's own id of a
file is a checksum; where none is known, what came has to be the network that was expected, layer for layer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """Published weights."""

    name: str
    title: str  # of the network, as what reads its file calls it
    data: str  # the data set that it was trained on
    split: str
    roc_auc: float  # macro over the 50 tags, as its authors printed it
    pr_auc: float | None
    url: str
    published_by: str
    license_id: str | None  # None: its authors state none
    bytes: int | None = None
    git_blob: str | None = None  # git's id of the file

    @property
    def source(self) -> str:
        """Say where the weights come from, after "the weights were"."""
        scores = f"ROC-AUC {self.roc_auc:.4f}"
        if self.pr_auc is not None:
            scores += f", PR-AUC {self.pr_auc:.4f}"
        checksum = f"git blob {self.git_blob}" if self.git_blob else "no checksum is published"
        return (
            f"published by {self.published_by} ({self.url}, {checksum}) and converted; "
            f"they report {scores} on {self.data}, split {self.split}"
        )


COLLECTION = "https://github.com/minzwon/sota-music-tagging-models/raw"
# Of the files whose id is not known: at an address with a commit in it there is one file for ever.
COMMIT = "ffcd1f90b97a1e923a50c6e5283f147cf9dd7dfd"
SPLITS = {"mtat": "clean", "msd": "published", "jamendo": "split-0"}
SHORT, RES = "Short-chunk CNN", "Short-chunk CNN + Res"

# Name, network, ROC-AUC, PR-AUC, folder among those of its data set, git's id of the file if it is known.
WON = (
    ("mtat-fcn", "FCN", 0.9005, 0.4295, "fcn", "970d99eb564935d36e2f4b71712a250a081229e0"),
    ("mtat-crnn", "CRNN", 0.8722, 0.3625, "crnn", "884e1ffa3b4d005794b225996163d1ef5d64206b"),
    ("mtat-musicnn", "Musicnn", 0.9106, 0.4493, "musicnn", "f535468c253f5d9a6e87c4088d234846d7738cc2"),
    ("mtat-samplecnn", "SampleCNN", 0.9058, 0.4422, "sample", "0ce2469da86fddc73be75936fbcddc9471e7ce21"),
    ("mtat-harmonic", "Harmonic CNN", 0.9127, 0.4611, "hcnn", "68960600c842af8256600bfe917bf91582721564"),
    ("mtat-shortchunk", SHORT, 0.9126, 0.4590, "", "be35d04f470834e1539ef205e3f8e3a6be2b3689"),
    ("msd-fcn", "FCN", 0.8744, 0.2970, "fcn", None),
    ("msd-crnn", "CRNN", 0.8499, 0.2469, "crnn", None),
    ("msd-musicnn", "Musicnn", 0.8803, 0.2983, "musicnn", None),
    ("msd-samplecnn", "SampleCNN", 0.8789, 0.2959, "sample", "3888125187cd62bff2ec7f6763b474b916407d95"),
    ("msd-harmonic", "Harmonic CNN", 0.8898, 0.3298, "hcnn", "8b6c53c41ce3fd5c61cd0aa2f5444435972f8e53"),
    ("msd-shortchunk-res", RES, 0.8898, 0.3280, "short_res", "2566ed85f37150ac6f3dba4f5a39985b5acbf156"),
    ("jamendo-fcn", "FCN", 0.8255, 0.2801, "fcn", None),
    ("jamendo-crnn", "CRNN", 0.7978, 0.2358, "crnn", None),
    ("jamendo-musicnn", "Musicnn", 0.8226, 0.2713, "musicnn", None),
    ("jamendo-samplecnn", "SampleCNN", 0.8208, 0.2742, "sample", "db5bedf34a0ea6500d95e254a43a203a185cec06"),
    ("jamendo-harmonic", "Harmonic CNN", 0.8322, 0.2956, "hcnn", "2890f9f118cc4fd906caac57fd2b56abe7a34706"),
    ("jamendo-shortchunk-res", RES, 0.8316, 0.2951, "short_res", "56478ab59e0891a0ef4188e997db536d35d3407a"),
)
BYTES = {"mtat-fcn": 1_902_811, "mtat-crnn": 1_687_630, "mtat-musicnn": 3_257_172}
# Name, block, ROC-AUC, address. The paper's authors publish neither checksums nor a licence.
KIM = (
    ("mtat-se", "SE", 0.9111, "r8qlxbol2p4ods5/se-multi-auc_0.9111-tfrmodel.hdf5"),
    ("mtat-rese2", "ReSE-2", 0.9113, "fr3y1o3hyha0n2m/rese-multi-auc_0.9113-tfrmodel.hdf5"),
)


def _won(name: str, network: str, roc_auc: float, pr_auc: float, folder: str, blob: str | None) -> Known:
    data = name.partition("-")[0]
    path = f"{data}/{folder}/best_model.pth" if folder else "best_model.pth"
    url = f"{COLLECTION}/{'master' if blob else COMMIT}/models/{path}"
    title, authors = f"{network} of Won et al.", "Won et al. (2020)"
    return Known(name, title, data, SPLITS[data], roc_auc, pr_auc, url, authors, "mit", BYTES.get(name), blob)


def _kim(name: str, block: str, roc_auc: float, address: str) -> Known:
    url = f"https://www.dropbox.com/s/{address}?dl=1"
    title, authors = f"{block}, multi-level, of Kim et al.", "Kim et al. (2018)"
    return Known(name, title, "mtat", "clean", roc_auc, None, url, authors, None)


KNOWN = {known.name: known for known in (*(_kim(*row) for row in KIM), *(_won(*row) for row in WON))}


def with_source(source: str) -> Known | None:
    """Return the published weights that a bundle says this of; None if it is none of them."""
    return next((known for known in KNOWN.values() if known.source == source), None)


def with_blob(blob: str) -> Known | None:
    """Return the published weights whose file has this id; None if it is none of them."""
    return next((known for known in KNOWN.values() if known.git_blob == blob), None)
