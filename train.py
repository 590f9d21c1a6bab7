"""Train and test one network, or a grid of them; `samplecnn train` does the same from any folder.

    python train.py block=se multi=true
    python train.py model=fcn               # another network of the field: conf/model/
    python train.py -m block=basic,se,res1,res2,rese1,rese2 multi=true,false
    python train.py -m experiment=table1    # and others in conf/experiment/
    python train.py init=RUN data=folder    # from a trained model: docs/fine-tuning.md
    python train.py resume=RUN

What can be set, and what it is by default: conf/train.yaml and the folders beside it.
"""

import sys

from samplecnn.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
