"""What the help of every command ends with: the words of its usage explained, and two examples or more."""

import argparse
import re

WORDS = {
    "RUN": "RUN is a run folder such as runs/2026-01-31/12-00-00, or the end of its path below runs/\n"
    "if no other ends so (`samplecnn runs` lists them).",
    "MODEL": "MODEL is a run (its folder, or the end of its path below runs/ if no other ends so),\n"
    "a checkpoint, a bundle, a name that `samplecnn models` lists, or hf:OWNER/NAME of the Hugging Face Hub.",
    "STORE": "STORE is a prepared data set: data/NAME, which `samplecnn prepare data=NAME` makes\n"
    "of audio and annotations.",
}
EXAMPLES = """
samplecnn tag song.mp3
samplecnn tag music/ --csv > tags.csv
samplecnn tag music/ --out tags.sqlite
samplecnn tag music/ --out tags.sqlite --write-tags --playlists playlists --threshold 0.3
samplecnn tag --undo samplecnn-undo.jsonl
samplecnn tag mix.flac --over-time --overlap 0.5 --json
samplecnn tag music/ --plot pictures --quiet
samplecnn embed music/ --out music.npz
samplecnn embed mix.flac --levels block7,last --over-time --out mix.parquet
samplecnn runs --sort auc --intervals
samplecnn runs --open 12-00-00
samplecnn runs runs/table1-mtat --only network=se --only state=finished --json
samplecnn evaluate runs/2026-01-31/12-00-00
samplecnn evaluate 12-00-00 --json
samplecnn evaluate runs/demo --under noise,mp3,pitch=-2:-1:1:2
samplecnn thresholds runs/demo
samplecnn thresholds 12-00-00 --precision 0.8
samplecnn probe data/mini --model runs/demo
samplecnn probe data/mtat --model msd-musicnn --kind mlp --out runs/probe/musicnn-mlp
samplecnn example runs/demo
samplecnn example 12-00-00 --clip 0007
samplecnn data check data/mini
samplecnn data info data/mtat --split clean --top 50
samplecnn data plot data/mini 0007 --out clip.svg
samplecnn excitation runs/demo
samplecnn excitation 12-00-00 --tags guitar,piano,drums --blocks 1,5,9
samplecnn report runs/table1-mtat runs/alpha-mtat --out report
samplecnn report runs --draws 200
samplecnn export runs/demo bundle
samplecnn export 12-00-00 bundle --onnx --half --int8 --license cc-by-4.0
samplecnn export 12-00-00 bundle --page --runtime package/dist
samplecnn models
samplecnn models --json
samplecnn import weights.pth bundle
samplecnn import weights.npz bundle --tags mtat --license mit
samplecnn import-keras weights.hdf5 bundle
samplecnn import-keras weights.hdf5 bundle --tags tags.txt --force
samplecnn push bundle me/my-tagger
samplecnn push bundle me/my-tagger --public
samplecnn pull mtat-musicnn
samplecnn pull someone/their-tagger bundle
samplecnn pull someone/their-tagger@v1 bundle --force
samplecnn serve
samplecnn serve runs/demo 12-00-00 --port 0
samplecnn use runs/demo
samplecnn use --forget
samplecnn doctor
samplecnn doctor --block rese2 --width 128 --json
"""


def explain(name: str, parser: argparse.ArgumentParser) -> None:
    """Have the help of a command end with what its words mean, and with examples."""
    usage = parser.format_help()
    parts = [
        parser.epilog or "",
        *(text for word, text in WORDS.items() if re.search(rf"\b{word}S?\b", usage)),
    ]
    examples = [line for line in EXAMPLES.splitlines() if line.split()[1:2] == [name]]
    parts.append("\n  ".join(["examples:", *examples]))
    parser.epilog = "\n\n".join(filter(None, parts))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
