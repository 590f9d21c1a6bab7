"""Prepare a data set: decode, resample and store its audio; `samplecnn prepare` does so from any folder.

    python prepare.py data=mini
    python prepare.py data=mtat               # downloads MagnaTagATune
    python prepare.py data=mtat data.raw=DIR  # or any folder in its layout
    python prepare.py data=mtat rate=16000    # beside the store at 22,050 Hz
    python prepare.py -m data=msd data.raw=DIR shard=0,1,2,3  # on many machines, by any Hydra launcher

Interrupted, it goes on where it stopped. What can be set: conf/prepare.yaml and conf/data/.
"""

import sys

from samplecnn.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
